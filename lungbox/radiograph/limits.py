"""What a radiograph may be at most: bytes of its file, pixels, memory and time for decoding."""

import io
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition
from typing import BinaryIO

from lungbox.constants import (
    DECODING_BYTES_AT_ONCE,
    MAX_ASPECT,
    MAX_DECODING_BYTES,
    MAX_FILE_BYTES,
    MAX_PIXELS,
)
from lungbox.radiograph.types import RadiographError

# Reading from any of these waits for another program, or never ends.
_NOT_REGULAR = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Each element of a header, and each chunk of a PNG, takes a few reads and up to a kilobyte of
# memory. A DICOM header has a few hundred of them, a compressed image some thousand fragments.
_MAX_READS = 200_000
# Seconds of this thread's CPU time, so that a slow disk does not count.
_MAX_HEADER_SECONDS, _MAX_PIXEL_SECONDS = 4.0, 20.0
# Bytes read of a single header value, more than any value in use has; pixel data is read apart.
_MAX_VALUE = 2**20


def open_source(source: Path | bytes) -> BinaryIO:
    """Open a file, or a file's content in memory, for reading.

    Raises:
        RadiographError: it cannot be opened, is not a regular file (a named pipe, a socket, a
            device, or a link to one), or is larger than `MAX_FILE_BYTES`.
    """
    if isinstance(source, bytes):
        _check_file_size(len(source))
        return io.BytesIO(source)
    try:
        _check_regular(source.stat().st_mode)  # opening a device may already have an effect
        file = open(source, "rb", opener=_open_nonblocking)  # noqa: SIM115
    except OSError as error:
        raise RadiographError(f"it cannot be opened ({error.strerror})") from error
    try:
        status = os.fstat(file.fileno())
        _check_regular(status.st_mode)  # it may have been replaced meanwhile
        _check_file_size(status.st_size)
    except BaseException:
        file.close()
        raise
    return file


def read_file_object(file: BinaryIO) -> bytes:
    """Read a binary file object from its position to its end; a seekable one is put back there.

    Raises:
        RadiographError: reading fails, or it holds more than `MAX_FILE_BYTES`.
    """
    content = io.BytesIO()
    try:
        start = file.tell() if file.seekable() else None
        try:
            while content.tell() <= MAX_FILE_BYTES and (part := file.read(2**20)):
                content.write(part)
        finally:
            if start is not None:
                file.seek(start)
    except OSError as error:
        raise RadiographError(f"it cannot be read ({error.strerror or error})") from error
    _check_file_size(content.tell())
    return content.getvalue()


def _check_file_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise RadiographError(
            f"it has {size:,} bytes, more than the {MAX_FILE_BYTES:,} a "
            "radiograph's file may have; save the image alone, or resize it first"
        )


def _check_regular(mode: int) -> None:
    for is_kind, kind in _NOT_REGULAR:
        if is_kind(mode):
            raise RadiographError(f"it is {kind}, not a file; copy what it gives into a file first")


def _open_nonblocking(name: str, flags: int) -> int:
    """Open for reading; a named pipe without a writer would otherwise block."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


class BoundedReader:
    """A file for parsers, which raises an error where parsing takes too many steps or too long.

    The limits hold for malicious files: millions of empty elements, values as long as the file,
    lengths beyond its end. Of a value longer than a megabyte only the first megabyte is read and
    the rest is skipped, for manufacturers keep data of their own in sequences.

    Example:
        >>> file = BoundedReader(io.BytesIO(b"abc"))
        >>> file.read(2)
        b'ab'

    Args:
        file: the file to read; it is not closed.
        limit: bytes that may be read in all.
    """

    closed = False

    def __init__(self, file: BinaryIO, limit: int = 2 * MAX_FILE_BYTES) -> None:
        self._file, self._bytes_left = file, limit
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._reads_left = _MAX_READS
        self._end = time.thread_time() + _MAX_HEADER_SECONDS

    def read(self, size: int = -1) -> bytes:
        """See `io.RawIOBase.read`.

        Raises:
            RadiographError: a limit is reached.
        """
        available = self._size - self._file.tell()
        size = available if size < 0 else min(size, available)
        self._reads_left -= 1
        self._bytes_left -= size
        if min(self._reads_left, self._bytes_left) < 0 or time.thread_time() > self._end:
            raise RadiographError(
                "its header is longer, or has more parts, than a radiograph's; save the image again"
            )
        value = self._file.read(min(size, _MAX_VALUE)) if size > 0 else b""
        if size > len(value):
            self._file.seek(size - len(value), io.SEEK_CUR)
        return value

    def start_pixels(self) -> None:
        """From now on pixels are read, which are larger and take longer than a header."""
        self._bytes_left = 2 * MAX_FILE_BYTES
        self._end = time.thread_time() + _MAX_PIXEL_SECONDS

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See `io.IOBase.seek`."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """See `io.IOBase.tell`."""
        return self._file.tell()


def check_pixels(width: int, height: int) -> None:
    """Refuse image sizes that no radiograph has, before anything is decoded.

    Raises:
        RadiographError: no pixels, more than `MAX_PIXELS`, or an aspect ratio above `MAX_ASPECT`.
    """
    if width * height > MAX_PIXELS:
        raise RadiographError(
            f"it has {width} x {height} pixels, more than the {MAX_PIXELS:,} a radiograph may "
            "have; resize it first"
        )
    if width * height == 0:
        raise RadiographError("it has no pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise RadiographError(
            f"it has {width} x {height} pixels; one side of a radiograph is at most {MAX_ASPECT} "
            "times as long as the other"
        )


def check_decoding(memory: int) -> None:
    """Refuse an image whose decoding takes more than `MAX_DECODING_BYTES`.

    Args:
        memory: its peak in bytes.

    Raises:
        RadiographError: it is too large.
    """
    if memory > MAX_DECODING_BYTES:
        raise RadiographError(
            f"decoding it takes {memory / 1e9:.1f} GB of memory, more than the "
            f"{MAX_DECODING_BYTES / 1e9:.1f} a radiograph may take; save it as 8-bit gray, or "
            "resize it first"
        )


class PixelBudget:
    """Memory that threads share while they decode: many small radiographs at once, or few large.

    A thread waits until its amount is free. An amount larger than the budget is reserved alone.

    Example:
        >>> budget = PixelBudget(1_000_000)
        >>> with budget.reserve(600_000):
        ...     pass  # other threads may reserve 400,000

    Args:
        size: bytes in all.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Free everything: after a fork the threads that reserved it do not exist."""
        self._reserved = 0
        self._changed = Condition()

    @contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Hold `amount` bytes of the budget inside the `with` block."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._reserved or self._reserved + amount <= self._size
            )
            self._reserved += amount
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= amount
                self._changed.notify_all()


# Of all threads that decode radiographs.
PIXEL_BUDGET = PixelBudget(DECODING_BYTES_AT_ONCE)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PIXEL_BUDGET.clear)
