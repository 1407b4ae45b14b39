"""A pipeline: read ahead in threads, run in batches, results in the order of the sources.

Several threads read, one thread runs batches, and the caller's thread finishes results, all at the
same time. A batch takes the items that were read first, so one large file does not delay the
others; only results wait for their turn, at most `ahead` of them.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")
Output = TypeVar("Output")
Result = TypeVar("Result")

# Batches submitted at once: one that runs, one that is next.
_SUBMITTED = 2


@dataclass(frozen=True)
class Stages(Generic[Source, Item, Output, Result]):
    """The functions of a pipeline.

    Attributes:
        read: a source to an item, or to a result at once (`Finished`); in several threads.
        run: a batch of items to its outputs; in one thread.
        finish: a batch and its outputs to a result each; in the caller's thread.
    """

    read: "Callable[[Source], Item | Finished[Result]]"
    run: Callable[[list[Item]], Output]
    finish: Callable[[list[Item], Output], list[Result]]


@dataclass(frozen=True)
class Finished(Generic[Result]):
    """A result of reading, which skips the other stages."""

    result: Result


def available_cpus() -> int:
    """Number of CPUs that this process may use, in a container fewer than `os.cpu_count()`."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_prefetched(
    sources: Iterable[Source],
    stages: Stages[Source, Item, Output, Result],
    batch_size: int,
    ahead: int,
) -> Iterator[Result]:
    """The results of all sources, in their order.

    Args:
        sources: taken only as they are needed.
        stages: the functions. An exception of any of them is raised here, and ends the pipeline.
        batch_size: items of a batch; fewer only where nothing else is being read.
        ahead: sources in progress at once, at least two batches.
    """
    with (
        ThreadPoolExecutor(available_cpus(), "read") as readers,
        ThreadPoolExecutor(1, "run") as runner,
    ):
        try:
            yield from _Prefetcher(stages, batch_size, readers, runner).run(sources, ahead)
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            runner.shutdown(wait=False, cancel_futures=True)


class _Prefetcher(Generic[Source, Item, Output, Result]):
    """The pipeline's state: each source is being read, waits, is being run, or has a result."""

    def __init__(
        self,
        stages: Stages[Source, Item, Output, Result],
        batch_size: int,
        readers: ThreadPoolExecutor,
        runner: ThreadPoolExecutor,
    ) -> None:
        self._stages, self._batch_size = stages, batch_size
        self._readers, self._runner = readers, runner
        # Calls that process a finished future, in the caller's thread.
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
            self._process_events(wait=given not in self._results)
            self._start_running()
            if given in self._results:
                yield self._results.pop(given)
                given += 1

    def _process_events(self, wait: bool) -> None:
        """Process all finished futures."""
        while wait or not self._events.empty():
            self._events.get()()
            wait = False

    def _start_reading(self, number: int, source: Source) -> None:
        self._reading += 1
        future = self._readers.submit(self._stages.read, source)
        future.add_done_callback(lambda done: self._events.put(lambda: self._take(number, done)))

    def _take(self, number: int, future: "Future[Item | Finished[Result]]") -> None:
        self._reading -= 1
        item = future.result()
        if isinstance(item, Finished):
            self._results[number] = item.result
        else:
            self._waiting.append((number, item))

    def _start_running(self) -> None:
        """Submit waiting items in batches."""
        while self._running < _SUBMITTED and self._waiting:
            if len(self._waiting) < self._batch_size and self._reading:
                return
            batch = self._waiting[: self._batch_size]
            del self._waiting[: self._batch_size]
            self._run(batch)

    def _run(self, batch: list[tuple[int, Item]]) -> None:
        self._running += 1
        future = self._runner.submit(self._stages.run, [item for _, item in batch])
        future.add_done_callback(lambda done: self._events.put(lambda: self._finish(batch, done)))

    def _finish(self, batch: list[tuple[int, Item]], future: Future[Output]) -> None:
        self._running -= 1
        results = self._stages.finish([item for _, item in batch], future.result())
        self._results |= {
            number: result for (number, _), result in zip(batch, results, strict=True)
        }
