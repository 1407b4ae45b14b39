"""Timing several ways of one thing in turns: a busy moment of the machine hits all alike."""

import statistics
import time
from collections.abc import Callable, Mapping

# The first ones compile, read caches and warm up.
WARM_UP = 2


def in_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = WARM_UP
) -> dict[str, float]:
    """The median seconds of each way over `rounds` rounds of all of them; `warm_up` come before."""
    seconds: dict[str, list[float]] = {what: [] for what in ways}
    for turn in range(rounds + warm_up):
        for what, way in ways.items():
            started = time.perf_counter()
            way()
            if turn >= warm_up:
                seconds[what].append(time.perf_counter() - started)
    return {what: statistics.median(taken) for what, taken in seconds.items()}
