"""Opening a file that may be anything, and reading no more of it than a radiograph needs."""

import io
import os
import stat
import time
from pathlib import Path
from typing import BinaryIO

from lungbox.constants import MAX_FILE_BYTES
from lungbox.radiograph.types import RadiographError

# Reading from any of these waits for another program, or has no end.
_NO_FILES = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Each element of a header, and each chunk of a PNG, takes a few reads and up to a kilobyte of
# memory. A DICOM header has a few hundred of them, a compressed image some thousand fragments.
_MOST_READS = 200_000
# Seconds of this thread's processor time, so that a slow disk does not count: for a header, and
# for the pixels after it.
_MOST_SECONDS, _MOST_SECONDS_OF_PIXELS = 4.0, 20.0
# Bytes read of a single value of a header, which is longer than any that is looked at; pixels are
# read apart.
_LONGEST_VALUE = 2**20


def open_file(path: Path) -> BinaryIO:
    """Open a regular file of a size that a radiograph may have.

    Raises:
        RadiographError: it cannot be opened, is no regular file (a named pipe, a socket, a
            device, or a link to one), or is larger than `MAX_FILE_BYTES`.
    """
    try:
        _check_kind(path.stat().st_mode)  # opening a device may already do something to it
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    except OSError as error:
        raise RadiographError(f"it cannot be opened ({error.strerror})") from error
    try:
        status = os.fstat(file.fileno())
        _check_kind(status.st_mode)  # it may have become something else meanwhile
        if status.st_size > MAX_FILE_BYTES:
            raise RadiographError(
                f"it has {status.st_size:,} bytes, more than the {MAX_FILE_BYTES:,} a "
                "radiograph's file may have; save the image alone, or resize it first"
            )
    except BaseException:
        file.close()
        raise
    return file


def _check_kind(mode: int) -> None:
    for is_kind, kind in _NO_FILES:
        if is_kind(mode):
            raise RadiographError(f"it is {kind}, not a file; copy what it gives into a file first")


def _without_waiting(name: str, flags: int) -> int:
    """Open for reading; a named pipe without a writer would otherwise wait for one."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


class Bounded:
    """A file for libraries that parse, which ends with an error where parsing takes too much.

    The limits hold for a file made to hurt: millions of empty elements, values as long as the
    file, lengths beyond its end. Of a value longer than a megabyte only the first is read, and the
    rest is skipped: manufacturers keep data of their own in sequences.

    Example:
        >>> file = Bounded(io.BytesIO(b"abc"))
        >>> file.read(2)
        b'ab'

    Args:
        file: what is read; not closed.
        most: bytes that may be read in all.
    """

    closed = False

    def __init__(self, file: BinaryIO, most: int = 2 * MAX_FILE_BYTES) -> None:
        self._file, self._bytes_left = file, most
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._reads_left = _MOST_READS
        self._end = time.thread_time() + _MOST_SECONDS

    def read(self, size: int = -1) -> bytes:
        """See `io.RawIOBase.read`.

        Raises:
            RadiographError: a limit is reached.
        """
        there = self._size - self._file.tell()
        size = there if size < 0 else min(size, there)
        self._reads_left -= 1
        self._bytes_left -= size
        if min(self._reads_left, self._bytes_left) < 0 or time.thread_time() > self._end:
            raise RadiographError(
                "its header is longer, or has more parts, than a radiograph's; save the image again"
            )
        value = self._file.read(min(size, _LONGEST_VALUE)) if size > 0 else b""
        if size > len(value):
            self._file.seek(size - len(value), io.SEEK_CUR)
        return value

    def header_ends(self) -> None:
        """From now on pixels are read, which are more and take longer."""
        self._bytes_left = 2 * MAX_FILE_BYTES
        self._end = time.thread_time() + _MOST_SECONDS_OF_PIXELS

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See `io.IOBase.seek`."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """See `io.IOBase.tell`."""
        return self._file.tell()
