"""Many things through one machine: nothing lost, nothing early, nothing kept waiting."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungbox.common.parallel import Finished, Stages, run_prefetched


class Machine:
    """Doubles numbers; those that are multiples of seven need no machine."""

    def __init__(self, delays=()):
        self.delays, self.batches, self.read_by = dict(enumerate(delays)), [], set()

    def read(self, number):
        time.sleep(self.delays.get(number, 0) / 1000)
        self.read_by.add(threading.current_thread().name)
        return Finished(2 * number) if number % 7 == 0 else number

    def run(self, batch):
        self.batches.append(batch)
        return [2 * number for number in batch]

    def stages(self):
        return Stages(self.read, self.run, lambda batch, answer: list(answer))


@settings(deadline=None)
@given(
    count=st.integers(0, 60),
    batch_size=st.integers(1, 9),
    spare=st.integers(0, 20),
    delays=st.lists(st.integers(0, 4), max_size=12),
)
def test_every_result_in_order_whatever_takes_long(count, batch_size, spare, delays):
    machine = Machine(delays)
    ahead = 2 * batch_size + spare
    taken = []

    def sources():
        for number in range(count):
            taken.append(number)
            yield number

    for place, result in enumerate(run_prefetched(sources(), machine.stages(), batch_size, ahead)):
        assert result == 2 * place
        assert len(taken) - place <= ahead
    assert len(taken) == count
    run = sorted(number for batch in machine.batches for number in batch)
    assert run == [number for number in range(count) if number % 7]
    assert all(len(batch) <= batch_size for batch in machine.batches)


def test_a_slow_file_does_not_keep_the_others_from_the_machine():
    finished = threading.Event()
    machine = Machine()

    def read(number):
        if number == 1:
            # Until all others that may be on their way have been run.
            assert finished.wait(20)
        return number

    def run(batch):
        answer = machine.run(batch)
        if sum(map(len, machine.batches)) == 11:
            finished.set()
        return answer

    stages = Stages(read, run, lambda batch, answer: list(answer))
    assert list(run_prefetched(range(1, 40), stages, 1, 12)) == list(range(2, 80, 2))


def test_the_machine_has_no_pause_while_a_caller_takes_its_time():
    """Between two results of one batch, the next batches are handed on."""
    machine, have_run, all_read = Machine(), threading.Semaphore(0), threading.Barrier(2)

    def read(number):
        if number == 39:
            all_read.wait(20)
        return number

    def run(batch):
        if 0 in batch:
            all_read.wait(20)
            time.sleep(0.1)  # until they are known to have been read
        answer = machine.run(batch)
        have_run.release()
        return answer

    stages = Stages(read, run, lambda batch, answer: list(answer))
    results = run_prefetched(range(40), stages, 4, 40)
    assert next(results) == 0
    for _ in range(3):  # that batch, and two that are with the machine at that time
        assert have_run.acquire(timeout=5)
    time.sleep(0.1)
    assert next(results) == 2
    assert have_run.acquire(timeout=5)
    results.close()


def test_batches_are_full_while_there_is_enough():
    machine = Machine()
    list(run_prefetched(range(1, 400), machine.stages(), 8, 48))
    assert sum(len(batch) < 8 for batch in machine.batches) <= 2


@pytest.mark.parametrize("stage", ["read", "run", "finish"])
def test_what_a_stage_raises_ends_it(stage):
    def fail(*_):
        raise OSError("broken")

    machine = Machine()
    stages = {"read": machine.read, "run": machine.run, "finish": lambda _, answer: answer}
    started = time.monotonic()
    with pytest.raises(OSError, match="broken"):
        list(run_prefetched(range(1, 10_000), Stages(**stages | {stage: fail}), 4, 16))
    assert time.monotonic() - started < 5


def test_whoever_has_seen_enough_stops_the_reading():
    machine = Machine()
    taken = []

    def sources():
        for number in range(1, 100_000):
            taken.append(number)
            yield number

    results = run_prefetched(sources(), machine.stages(), 4, 16)
    assert next(results) == 2
    results.close()
    count = len(taken)
    assert count <= 17
    time.sleep(0.05)
    assert len(taken) == count
    assert not [one for one in threading.enumerate() if one.name.startswith(("read_", "run_"))]


def test_a_result_does_not_wait_for_what_is_read_later():
    handed_on = threading.Event()

    def read(number):
        if number > 8:
            assert handed_on.wait(20)
        return number

    machine = Machine()
    results = run_prefetched(
        range(1, 30), Stages(read, machine.run, lambda _, answer: answer), 4, 16
    )
    assert [next(results) for _ in range(8)] == list(range(2, 18, 2))
    handed_on.set()
    assert len(list(results)) == 21


def test_one_thread_runs_what_several_read():
    names = set()
    machine = Machine()

    def run(batch):
        names.add(threading.current_thread().name)
        return machine.run(batch)

    list(run_prefetched(range(200), Stages(machine.read, run, lambda _, answer: answer), 4, 16))
    assert len(names) == 1
    assert not names & machine.read_by
