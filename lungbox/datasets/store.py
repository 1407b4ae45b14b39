"""Prepared images on disk: one growing file of pixels, and a table of each image's row in it.

Every image is in it once for a size and a preparation, whatever data set or fold it is requested
with, so that training and evaluation use what `lungbox prepare` has read.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from lungbox.common.files import atomic_write, stamp
from lungbox.common.parallel import available_cpus
from lungbox.datasets.types import DatasetError
from lungbox.radiograph import RadiographError, prepare, read
from lungbox.radiograph.prepare import VERSIONS, Preparation

# Raise it when `radiograph.read` computes something else: older stores are then ignored.
_VERSION = 2
# Pixels and table are written to the disk after so many images: the most that a kill may cost.
_AT_ONCE = 128

# A file as it is: its path, its size in bytes and its time of change in nanoseconds.
FileKey = tuple[str, int, int]


def file_key(path: Path) -> FileKey:
    """The key of a file's prepared image; matches nothing where there is no such file."""
    return str(path.resolve()), *(stamp(path) or (-1, -1))


class Store:
    """The prepared images of one size and preparation.

    Args:
        folder: where stores are kept.
        image_size: side of the square, in pixels.
        preparation: see `radiograph.prepare`.
    """

    def __init__(self, folder: Path, image_size: int, preparation: Preparation) -> None:
        self.name = f"{image_size}-{preparation}-{VERSIONS[preparation]}-{_VERSION}"
        self.folder = folder / "prepared" / self.name
        self._side, self._preparation = image_size, preparation
        self._pixels, self._table = self.folder / "pixels.bin", self.folder / "rows.jsonl"

    def rows(self) -> dict[FileKey, int]:
        """The row of each image; without lines of the table that a kill cut off."""
        try:
            complete = self._pixels.stat().st_size // self._side**2
        except OSError:
            return {}
        # Of two images with one row, the pixels are those of the one that was noted last.
        latest = {row: of for of, row in self._lines()}
        return {of: row for row, of in latest.items() if row < complete}

    def _lines(self) -> list[tuple[FileKey, int]]:
        """The complete lines of the table, whether or not their pixels are still there."""
        found = []
        try:
            lines = self._table.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        for line in lines:
            try:
                path, size, changed, row = json.loads(line)
            except ValueError:
                continue
            found.append(((path, size, changed), row))
        return found

    def pixels(self) -> NDArray[np.uint8]:
        """`(rows, S, S)` uint8, memory-mapped."""
        if not self._pixels.is_file() or self._pixels.stat().st_size < self._side**2:
            return np.zeros((0, self._side, self._side), np.uint8)
        rows = self._pixels.stat().st_size // self._side**2
        return np.memmap(self._pixels, np.uint8, "r", shape=(rows, self._side, self._side))

    def add(
        self, paths: Sequence[Path], advance: Callable[[], object] = lambda: None
    ) -> dict[Path, str]:
        """Read and prepare the files that are missing; other processes may read meanwhile.

        Only one process adds at a time; a second waits, then finds what the first added.

        Args:
            paths: the files.
            advance: called once for every file read.

        Returns:
            The files that could not be read, with the reason; they are tried again each time.

        Raises:
            DatasetError: the disk has no room for them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        failed: dict[Path, str] = {}
        with FileLock(self.folder / ".lock"):
            there = self.rows()
            if len(self._lines()) > len(there):
                # The pixels of some lines are gone, as when somebody deletes the large file alone;
                # other images' will be written into their rows.
                self._forget_all_but(there)
            new = [path for path in dict.fromkeys(paths) if file_key(path) not in there]
            self._check_room(len(new))
            row = max(there.values(), default=-1) + 1
            self._pixels.touch()
            with self._pixels.open("r+b") as file, ThreadPoolExecutor(available_cpus()) as pool:
                for start in range(0, len(new), _AT_ONCE):
                    part = new[start : start + _AT_ONCE]
                    self._add_part(part, row + start, _Rows(file), pool, failed, advance)
        return failed

    def _add_part(
        self,
        paths: Sequence[Path],
        first: int,
        rows: "_Rows",
        pool: ThreadPoolExecutor,
        failed: dict[Path, str],
        advance: Callable[[], object],
    ) -> None:
        def add_one(path: Path, row: int) -> tuple[FileKey, int] | None:
            found = file_key(path)  # before it is read, so that a change meanwhile is noticed
            try:
                rows.write(row, prepare(read(path).pixels, self._side, self._preparation))
            except RadiographError as error:
                failed[path] = str(error)
                return None
            finally:
                advance()
            return found, row

        done = list(pool.map(add_one, paths, range(first, first + len(paths))))
        rows.finish()
        self._note([image for image in done if image])

    def _note(self, images: list[tuple[FileKey, int]]) -> None:
        """Add the rows of images to the table, now that their pixels are on the disk."""
        with self._table.open("a", encoding="utf-8") as file:
            # A line that a kill cut off must not take the next with it.
            file.write("\n" + "\n".join(json.dumps([*of, row]) for of, row in images) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _forget_all_but(self, rows: dict[FileKey, int]) -> None:
        with atomic_write(self._table) as file:
            file.writelines(json.dumps([*of, row]) + "\n" for of, row in rows.items())

    def _check_room(self, images: int) -> None:
        needed, free = images * self._side**2, shutil.disk_usage(self.folder).free
        if needed > free:
            raise DatasetError(
                f"{self.folder}: has {free / 1e9:.1f} GB free, and {images} prepared images need "
                f"{needed / 1e9:.1f}; make room, or set LUNGBOX_CACHE to another disk"
            )


class _Rows:
    """The file of pixels, which several threads write."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock = file, threading.Lock()

    def write(self, row: int, image: NDArray[np.uint8]) -> None:
        with self._lock:
            self._file.seek(row * image.size)
            self._file.write(np.ascontiguousarray(image).data)

    def finish(self) -> None:
        """Wait until all of it is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
