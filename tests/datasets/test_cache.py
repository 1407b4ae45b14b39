"""The cache holds what inference would compute, and is made once."""

import numpy as np
import pytest

from lungbox import datasets
from lungbox.datasets.cache import prepare_all
from lungbox.datasets.phantom import write_rsna
from lungbox.radiograph import prepare, read


@pytest.fixture
def dataset(tmp_path):
    write_rsna(tmp_path / "data", count=6, size=96)
    return datasets.load(tmp_path / "data")


def test_rows_are_prepared_images(dataset, tmp_path):
    cache = prepare_all(dataset, 64, tmp_path / "cache")
    assert cache.images(slice(None)).shape == (6, 64, 64)
    for row, image in enumerate(cache.dataset.images):
        assert np.array_equal(cache.images(row), prepare(read(image.path).pixels, 64))


def test_it_is_made_once(dataset, tmp_path):
    read_images = []
    for _ in range(2):
        prepare_all(dataset, 64, tmp_path / "cache", lambda: read_images.append(1))
    assert len(read_images) == 6


def test_changed_files_and_sizes_make_another(dataset, tmp_path):
    first = prepare_all(dataset, 64, tmp_path / "cache").images(0)
    assert prepare_all(dataset, 32, tmp_path / "cache").images(0).shape == (32, 32)
    path, other = dataset.images[0].path, dataset.images[1].path
    path.write_bytes(other.read_bytes())
    again = prepare_all(dataset, 64, tmp_path / "cache")
    assert not np.array_equal(again.images(0), first)
    assert np.array_equal(again.images(0), again.images(1))


def test_unreadable_images_are_left_out_and_named(dataset, tmp_path):
    path = dataset.images[2].path
    path.write_bytes(path.read_bytes()[:500])
    for _ in range(2):  # made, and found again
        cache = prepare_all(dataset, 64, tmp_path / "cache")
        assert len(cache) == len(cache.dataset) == 5
        expected = prepare(read(dataset.images[3].path).pixels, 64)
        assert np.array_equal(cache.images(2), expected)
        assert path not in [image.path for image in cache.dataset.images]
        ((failed, reason),) = cache.failed
        assert failed == path
        assert "damaged or cut off" in reason


def test_a_stopped_cache_is_not_taken_for_whole(dataset, tmp_path):
    stop = iter(range(3))

    def advance():
        if next(stop, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_all(dataset, 64, tmp_path / "cache", advance)
    assert len(prepare_all(dataset, 64, tmp_path / "cache")) == 6
