"""Many things through a slow machine: read ahead, run in batches, handed on in their order.

Reading happens in threads, running in one of its own, and what becomes of the answers with the
caller, all at the same time. Batches are made of whatever has been read first, so that one large
file does not keep the others waiting; only the results do, for no more than `ahead` of them.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")
Answer = TypeVar("Answer")
Result = TypeVar("Result")

# Batches with the machine: one that is run, one that is next.
_RUNNING = 2


@dataclass(frozen=True)
class Stages(Generic[Source, Item, Answer, Result]):
    """What is done with each.

    Attributes:
        read: in several threads; gives an item for the machine, or a result already (`Finished`).
        run: in one thread, a batch of items at once.
        finish: with the caller, a batch and its answer to a result each.
    """

    read: "Callable[[Source], Item | Finished[Result]]"
    run: Callable[[list[Item]], Answer]
    finish: Callable[[list[Item], Answer], list[Result]]


@dataclass(frozen=True)
class Finished(Generic[Result]):
    """A result that needs no machine."""

    result: Result


def cores() -> int:
    """Processors that this process may use, which in a container are not all there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def through(
    sources: Iterable[Source],
    stages: Stages[Source, Item, Answer, Result],
    batch_size: int,
    ahead: int,
) -> Iterator[Result]:
    """The results of all sources, in their order.

    Args:
        sources: taken only as they are needed.
        stages: see there. What any of them raises is raised here, and ends it.
        batch_size: items that are run at once; fewer only where nothing else is being read.
        ahead: how many may be on their way at once, at least two batches.
    """
    with (
        ThreadPoolExecutor(cores(), "read") as readers,
        ThreadPoolExecutor(1, "run") as machine,
    ):
        try:
            yield from _Flow(stages, batch_size, readers, machine).run(sources, ahead)
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            machine.shutdown(wait=False, cancel_futures=True)


class _Flow(Generic[Source, Item, Answer, Result]):
    """Each thing is being read, or waits for the machine, or is with it, or is a result."""

    def __init__(
        self,
        stages: Stages[Source, Item, Answer, Result],
        batch_size: int,
        readers: ThreadPoolExecutor,
        machine: ThreadPoolExecutor,
    ) -> None:
        self._stages, self._batch_size = stages, batch_size
        self._readers, self._machine = readers, machine
        # What has happened: calls that take it in, put here by whichever thread has done its part.
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._reading = self._running = 0
        self._waiting: list[tuple[int, Item]] = []
        self._results: dict[int, Result] = {}

    def run(self, sources: Iterable[Source], ahead: int) -> Iterator[Result]:
        remaining = enumerate(sources)
        taken = given = 0
        while True:
            while taken - given < ahead and (one := next(remaining, None)) is not None:
                self._start_reading(*one)
                taken += 1
            if given == taken:
                return
            self._take_in(wait=given not in self._results)
            self._start_running()
            if given in self._results:
                yield self._results.pop(given)
                given += 1

    def _take_in(self, wait: bool) -> None:
        """All that has happened meanwhile; the machine has no pause while a caller takes its time
        with results."""
        while wait or not self._events.empty():
            self._events.get()()
            wait = False

    def _start_reading(self, number: int, source: Source) -> None:
        self._reading += 1
        future = self._readers.submit(self._stages.read, source)
        future.add_done_callback(lambda done: self._events.put(lambda: self._take(number, done)))

    def _take(self, number: int, future: "Future[Item | Finished[Result]]") -> None:
        """What has been read."""
        self._reading -= 1
        item = future.result()
        if isinstance(item, Finished):
            self._results[number] = item.result
        else:
            self._waiting.append((number, item))

    def _start_running(self) -> None:
        """Give the machine what there is, where it has not enough already."""
        while self._running < _RUNNING and self._waiting:
            if len(self._waiting) < self._batch_size and self._reading:
                return
            batch = self._waiting[: self._batch_size]
            del self._waiting[: self._batch_size]
            self._run(batch)

    def _run(self, batch: list[tuple[int, Item]]) -> None:
        self._running += 1
        future = self._machine.submit(self._stages.run, [item for _, item in batch])
        future.add_done_callback(lambda done: self._events.put(lambda: self._finish(batch, done)))

    def _finish(self, batch: list[tuple[int, Item]], future: Future[Answer]) -> None:
        """What the machine has answered."""
        self._running -= 1
        results = self._stages.finish([item for _, item in batch], future.result())
        self._results |= {
            number: result for (number, _), result in zip(batch, results, strict=True)
        }
