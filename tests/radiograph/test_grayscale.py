"""Counting and looking up by parts; how much is decoded at once."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lungbox.radiograph.grayscale import count, look_up
from lungbox.radiograph.limits import PixelBudget


@settings(deadline=None)
@given(
    values=arrays(
        np.int16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-50, 50)
    ),
    without=arrays(np.bool_, (9, 9)),
)
def test_values_are_counted_and_looked_up(values, without):
    without = without[: values.shape[0], : values.shape[1]]
    low = int(values.min())
    size = int(values.max()) - low + 1
    found = count(values, low, size, without)
    assert [(values[~without] == low + i).sum() for i in range(size)] == found.tolist()
    table = np.arange(size, dtype=np.uint8)[::-1].copy()
    assert (look_up(table, values, low) == low + size - 1 - values.astype(int)).all()


@pytest.mark.parametrize("shape", [(3001, 1999), (1, 3_000_000), (3_000_000, 1)])
def test_large_images_are_done_in_parts(shape):
    values = np.random.default_rng(0).integers(100, 4096, shape, np.uint16)
    assert (count(values, 100, 3996) == np.bincount(values.ravel() - 100, minlength=3996)).all()
    table = np.random.default_rng(1).integers(0, 256, 3996, np.uint8)
    assert (look_up(table, values, 100) == table[values - 100]).all()


def test_gray_levels_that_stay_are_not_copied():
    values = np.full((4, 4), 7, np.uint8)
    assert look_up(np.arange(7, 9, dtype=np.uint8), values, 7) is values


def test_no_more_comes_in_than_there_is_room_for():
    room, inside, most = PixelBudget(10), [], []
    lock = threading.Lock()

    def register(amount):
        with room.reserve(amount):
            with lock:
                inside.append(amount)
                most.append(list(inside))
            time.sleep(0.005)
            with lock:
                inside.remove(amount)

    threads = [threading.Thread(target=register, args=(1 + i % 7,)) for i in range(40)]
    threads += [threading.Thread(target=register, args=(25,))]  # larger than all there is
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(most) == 41
    assert all(sum(there) <= 10 or there == [25] for there in most)
    assert max(map(len, most)) > 1


def test_who_breaks_down_inside_leaves_the_room():
    room = PixelBudget(1)
    with pytest.raises(ValueError, match="broken"), room.reserve(1):
        raise ValueError("broken")
    with room.reserve(1):
        pass
