"""Files are replaced atomically, with the user's permissions; folders are walked once."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from lungbox.common.files import atomic_write, stamp, walk_files


@pytest.fixture
def umask():
    """Sets the umask of the test alone."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_new_file_has_what_the_umask_leaves(tmp_path, umask, mask, expected, mode):
    umask(mask)
    for _ in range(2):  # new, then replaced
        with atomic_write(tmp_path / "a.csv", mode) as file:
            file.write("x" if mode == "w" else b"x")
        assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == expected
    assert umask(mask) == mask


def test_the_umask_is_not_changed_for_other_threads(tmp_path, umask, monkeypatch):
    """The umask belongs to the process: two threads that set and restore it leave it at 0."""

    def changed(mask):
        raise AssertionError(f"the umask of the process was set to {mask}")

    with monkeypatch.context() as patch:
        patch.setattr(os, "umask", changed)

        def write(number):
            with atomic_write(tmp_path / f"{number % 4}.txt") as file:
                file.write(f"{number}\n")

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(write, range(200)))
    assert umask(0o022) == 0o022
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.txt", "1.txt", "2.txt", "3.txt"]
    for number in range(4):
        assert int((tmp_path / f"{number}.txt").read_text()) % 4 == number


def test_a_write_that_fails_leaves_the_file_before_it(tmp_path):
    path = tmp_path / "folder" / "a.txt"
    with atomic_write(path) as file:
        file.write("Ä\n")

    def write_half():
        with atomic_write(path) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == "Ä\n".encode()
    assert [item.name for item in path.parent.iterdir()] == ["a.txt"]


def test_a_stamp_changes_with_size_and_time(tmp_path):
    path = tmp_path / "a"
    assert stamp(path) is None
    path.write_text("one")
    before = stamp(path)
    assert before == (3, path.stat().st_mtime_ns)
    os.utime(path, ns=(0, 7))
    assert stamp(path) == (3, 7)


def test_folders_behind_links_are_walked_once(tmp_path):
    for name in ("a/1.txt", "b/c/2.txt", ".git/3.txt", "__MACOSX/4.txt", "b/.5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b/c/loop").symlink_to(tmp_path)
    (tmp_path / "b/again").symlink_to(tmp_path / "a")
    found = [path.relative_to(tmp_path).as_posix() for path in walk_files(tmp_path)]
    assert sorted(found) == ["a/1.txt", "b/.5", "b/c/2.txt"]
    left = walk_files(tmp_path, [(tmp_path / "b").resolve()])
    assert [path.name for path in left] == ["1.txt"]
