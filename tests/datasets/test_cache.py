"""The cache holds what inference would compute, is made once, and survives a kill."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lungbox import datasets
from lungbox.datasets import DatasetError, store
from lungbox.datasets.cache import missing, prepare_all
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


def test_a_part_finds_what_was_read_for_the_whole(dataset, tmp_path):
    read_images = []
    whole = prepare_all(dataset, 64, tmp_path / "cache")
    part = dataset.folds([1, 3])
    cache = prepare_all(part, 64, tmp_path / "cache", lambda: read_images.append(1))
    assert not read_images
    assert np.array_equal(cache.images(slice(None)), whole.images(slice(None))[[1, 3]])
    assert cache.key != whole.key


def test_a_larger_data_set_reads_only_what_is_new(dataset, tmp_path):
    read_images = []
    prepare_all(dataset.folds([0, 2]), 64, tmp_path / "cache")  # three of six
    assert missing(dataset, 64, tmp_path / "cache") == 3
    assert missing(dataset, 64, tmp_path / "cache", "nearest") == 6
    cache = prepare_all(dataset, 64, tmp_path / "cache", lambda: read_images.append(1))
    assert len(read_images) == 3
    for row, image in enumerate(cache.dataset.images):
        assert np.array_equal(cache.images(row), prepare(read(image.path).pixels, 64))


_KILLED = """
import os, signal, sys
from pathlib import Path
from lungbox import datasets
from lungbox.datasets import store
from lungbox.datasets.cache import prepare_all

store._AT_ONCE = 4
left = iter(range(9))
def advance():
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
prepare_all(datasets.load(Path(sys.argv[1])), 64, Path(sys.argv[2]), advance)
"""


def test_a_killed_run_is_continued(tmp_path):
    write_rsna(tmp_path / "data", count=15, size=96)
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path / "data"), str(tmp_path / "cache")],
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    read_images = []
    dataset = datasets.load(tmp_path / "data")
    cache = prepare_all(dataset, 64, tmp_path / "cache", lambda: read_images.append(1))
    assert len(read_images) == 15 - 8  # two parts of four were on the disk
    for row, image in enumerate(cache.dataset.images):
        assert np.array_equal(cache.images(row), prepare(read(image.path).pixels, 64))


@pytest.mark.parametrize("bytes_left", [0, 1, 64 * 64, 64 * 64 * 5 + 7])
@pytest.mark.parametrize("damaged", ["pixels.bin", "rows.jsonl"])
def test_a_store_that_was_cut_off_is_mended(dataset, tmp_path, damaged, bytes_left):
    prepare_all(dataset, 64, tmp_path / "cache")
    (file,) = (tmp_path / "cache").rglob(damaged)
    file.write_bytes(file.read_bytes()[:bytes_left])
    cache = prepare_all(dataset, 64, tmp_path / "cache")
    for row, image in enumerate(cache.dataset.images):
        assert np.array_equal(cache.images(row), prepare(read(image.path).pixels, 64))


@pytest.mark.parametrize("left", [0, 64 * 64 * 2])
def test_rows_whose_pixels_were_deleted_never_become_another_images(dataset, tmp_path, left):
    """Somebody makes room and deletes the large file, or a part of it, but not the small table;
    then other images are prepared."""
    write_rsna(tmp_path / "more", count=4, size=96, seed=9)
    other = datasets.load(tmp_path / "more")
    prepare_all(dataset, 64, tmp_path / "cache")
    (pixels,) = (tmp_path / "cache").rglob("pixels.bin")
    pixels.write_bytes(pixels.read_bytes()[:left])
    prepare_all(other, 64, tmp_path / "cache")
    for of in (dataset, other):
        cache = prepare_all(of, 64, tmp_path / "cache")
        for row, image in enumerate(cache.dataset.images):
            assert np.array_equal(cache.images(row), prepare(read(image.path).pixels, 64))


def test_a_killed_run_after_pixels_were_deleted(dataset, tmp_path, monkeypatch):
    """The pixels of new images are there, and their lines of the table are not yet."""
    write_rsna(tmp_path / "more", count=4, size=96, seed=9)
    other = datasets.load(tmp_path / "more")
    prepare_all(dataset, 64, tmp_path / "cache")
    (pixels,) = (tmp_path / "cache").rglob("pixels.bin")
    pixels.unlink()
    monkeypatch.setattr(store.Store, "_note", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_all(other, 64, tmp_path / "cache")
    monkeypatch.undo()
    assert pixels.stat().st_size == 4 * 64 * 64
    cache = prepare_all(dataset, 64, tmp_path / "cache")
    for row, image in enumerate(cache.dataset.images):
        assert np.array_equal(cache.images(row), prepare(read(image.path).pixels, 64))


def _interrupted(*_):
    raise KeyboardInterrupt


def test_a_file_that_went_away_is_named(dataset, tmp_path):
    dataset.images[1].path.unlink()
    cache = prepare_all(dataset, 64, tmp_path / "cache")
    assert len(cache) == 5
    ((path, reason),) = cache.failed
    assert path == dataset.images[1].path
    assert "cannot be opened" in reason


def test_a_full_disk_is_said_before_anything_is_read(dataset, tmp_path, monkeypatch):
    usage = store.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DatasetError, match="6 prepared images need"):
        prepare_all(dataset, 64, tmp_path / "cache")
