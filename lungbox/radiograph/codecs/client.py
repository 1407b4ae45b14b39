"""Decoding compressed pixel data in a process of its own.

What decodes it is written in C: on damaged data it may crash, compute for minutes or take
gigabytes. In a process that can be killed, that costs one file's pixels and never the run.
"""

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from lungbox.radiograph.types import RadiographError

_PACKAGE_ROOT = Path(__file__).parents[3]
_WORKER = "lungbox.radiograph.codecs.worker"
READY = b"ready\n"
# Of the header, what pydicom needs to decode a frame.
_PIXEL_ATTRIBUTES = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
# Seconds for the start of the process, and for one file, of which the largest takes two or three.
_START_TIMEOUT, _TIMEOUT = 60.0, 25.0
_local = threading.local()


class _DecoderDiedError(Exception):
    """The process ended without a complete answer."""


def decode_in_subprocess(dataset: Dataset) -> NDArray:
    """Decode a DICOM image in a process beside this one.

    Each thread has a process of its own, started when it is first needed. One that ends before it
    has answered may have been killed from outside, so the image is tried once more.

    Args:
        dataset: a checked header, see `header.read_header`, with compressed `PixelData`.

    Returns:
        `(Rows, Columns)` or `(Rows, Columns, SamplesPerPixel)` stored values.

    Raises:
        RadiographError: the process ended twice, or took too long.
        ValueError: the decoder's reason why it cannot decode the image.
    """
    remaining = _TIMEOUT
    for _ in range(2):
        decoder = _own_decoder()
        if not decoder.start():  # which a busy machine may delay, so it does not count
            continue
        started = time.monotonic()
        try:
            return decoder.decode(dataset, remaining)
        except _DecoderDiedError:
            remaining -= time.monotonic() - started
    raise RadiographError(
        "its decoder ended twice without an answer: the pixel data is damaged, or memory ran out; "
        "copy the file again"
    )


def _own_decoder() -> "_Decoder":
    # After a fork this thread still has the parent's, whose pipes are the parent's to use.
    if getattr(_local, "owner", None) != os.getpid():
        _local.decoder, _local.owner = _Decoder(), os.getpid()
    return _local.decoder


class _Decoder:
    """One process that is sent compressed images and sends back arrays."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: io.BufferedReader | None = None
        self._owner = os.getpid()
        self._number = 0

    def start(self) -> bool:
        """Start the process where none runs; whether it became ready in time."""
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = _start()
        if self._process is not None and self._answers is None:
            # Unlike one that writes, a reader's buffer does no harm when a fork copies it.
            self._answers = io.BufferedReader(cast(io.RawIOBase, self._process.stdout))
        return self._process is not None

    def decode(self, dataset: Dataset, timeout: float) -> NDArray:
        """Decode one image; see `decode_in_subprocess`."""
        try:
            answer = self._request(dataset, time.monotonic() + timeout)
        except BaseException:
            # Interrupted, perhaps: an answer that nobody has read must not be left in the pipe.
            self._end()
            raise
        if isinstance(answer, str):
            raise ValueError(answer)
        return answer

    def _request(self, dataset: Dataset, deadline: float) -> NDArray | str:
        """The array, or why there is none."""
        assert self._process is not None
        self._number += 1
        request, shape = _request_line(self._number, dataset), _shape(dataset)
        try:
            with _killed_at(deadline, self._process):
                _write(self._process, request)
                _write(self._process, dataset.PixelData)
                return _read_answer(self._answers, self._number, shape)
        except (OSError, ValueError, TypeError) as error:
            if time.monotonic() >= deadline:
                raise RadiographError(
                    f"its pixel data takes more than {_TIMEOUT:.0f} seconds to decode, as damaged "
                    "data can; copy the file again"
                ) from error
            raise _DecoderDiedError from error

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if self._owner == os.getpid():
            process.kill()
        else:
            process.returncode = 0  # another process's child, which it waits for
        for pipe in (process.stdin, self._answers or process.stdout):
            if pipe is not None:
                pipe.close()
        self._answers = None
        process.wait()

    def __del__(self) -> None:
        self._end()


def _start() -> "subprocess.Popen[bytes] | None":
    """A process that is ready to decode; None where it does not become so in time."""
    paths = [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        # -P: nothing is imported from the folder the user happens to be in.
        [sys.executable, "-P", "-W", "ignore", "-m", _WORKER],
        bufsize=0,  # nothing that a fork would copy
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        # Windows would open a window for it.
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    assert process.stdout is not None
    try:
        with _killed_at(time.monotonic() + _START_TIMEOUT, process):
            ready = process.stdout.read(len(READY)) == READY
    except BaseException:  # interrupted, perhaps
        _kill(process)
        raise
    if not ready:
        _kill(process)
    return process if ready else None


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()  # closes its pipes and waits for it


@contextmanager
def _killed_at(deadline: float, process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Kill the process at the deadline, and so end whatever waits for it inside."""
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _request_line(number: int, dataset: Dataset) -> bytes:
    header = {name: dataset.get(name) for name in _PIXEL_ATTRIBUTES}
    header = {name: value for name, value in header.items() if value not in (None, "")}
    header["TransferSyntaxUID"] = dataset.file_meta.TransferSyntaxUID
    return f"{number} {len(dataset.PixelData)} {json.dumps(header)}\n".encode()


def _shape(dataset: Dataset) -> tuple[int, ...]:
    shape = (int(dataset.Rows), int(dataset.Columns))
    samples = int(dataset.SamplesPerPixel)
    return shape if samples == 1 else (*shape, samples)


def _write(process: "subprocess.Popen[bytes]", content: bytes) -> None:
    assert process.stdin is not None
    left = memoryview(content)
    while left:
        left = left[process.stdin.write(left) :]


def _read_answer(
    answers: io.BufferedReader | None, number: int, shape: tuple[int, ...]
) -> NDArray | str:
    """The answer to the request of that number.

    Raises:
        ValueError, TypeError, OSError: there is none, or it is another one's.
        RadiographError: the image has another size than `shape`.
    """
    assert answers is not None
    line = answers.readline().decode("utf-8")
    answered, kind, rest = line.rstrip("\n").split(" ", 2)
    if not line.endswith("\n") or int(answered) != number or kind not in ("array", "error"):
        raise ValueError("an incomplete answer, or one to another request")
    if kind == "error":
        return rest
    dtype, *sides = rest.split(" ")
    if tuple(map(int, sides)) != shape:
        raise RadiographError("the DICOM header and the image inside disagree on its size")
    values = np.empty(shape, dtype)
    if answers.readinto(values.data.cast("B")) != values.nbytes:
        raise ValueError("an incomplete answer")
    return values
