"""Timing several ways of one thing in turns: a busy moment of the machine hits all alike."""

import statistics
import time
from collections.abc import Callable, Mapping

# The first ones compile, read caches and warm up.
WARM_UP = 2


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each way over `rounds` rounds of all of them."""
    seconds: dict[str, list[float]] = {what: [] for what in ways}
    for turn in range(rounds + WARM_UP):
        for what, way in ways.items():
            started = time.perf_counter()
            way()
            if turn >= WARM_UP:
                seconds[what].append(time.perf_counter() - started)
    return {what: statistics.median(taken) for what, taken in seconds.items()}
