"""Decoding compressed pixel data in a process of its own.

What decodes it is written in C: on damaged data it may crash, compute for minutes or take
gigabytes. In a process that can be ended, that costs one file's pixels and never the run.
"""

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lungbox.radiograph.types import RadiographError

_PACKAGE_ROOT = Path(__file__).parent.parent.parent
_SERVER = "lungbox.radiograph.decoder_process"
_local = threading.local()
# Seconds for one file, the start of the process included; the largest takes two or three.
_PATIENCE = 25.0


class _DecoderEndedError(Exception):
    """The process ended before it had answered, or answered something else."""


def decode_apart(path: Path, shape: tuple[int, ...]) -> NDArray:
    """The pixels of a DICOM file, decoded in a process beside this one.

    Each thread has a process of its own, started when it is first needed. One that ends before it
    has answered may have been ended by someone else, so the file is tried once more.

    Args:
        path: the file.
        shape: `(H, W)` or `(H, W, samples)`, as the header has it.

    Raises:
        RadiographError: the decoder did not survive trying, or took too long.
        ValueError: the decoder says why it cannot decode them.
    """
    deadline = time.monotonic() + _PATIENCE
    for _ in range(2):
        with suppress(_DecoderEndedError):
            return _own_decoder().decode(path, shape, deadline)
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
    """One process that is sent paths and sends back arrays."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: io.BufferedReader | None = None
        self._owner = os.getpid()
        self._number = 0

    def decode(self, path: Path, shape: tuple[int, ...], deadline: float) -> NDArray:
        """See `decode_apart`."""
        try:
            answer = self._ask(path, shape, deadline)
        except BaseException:
            # Interrupted, perhaps: an answer that nobody has read must not be left in the pipe.
            self._end()
            raise
        if isinstance(answer, str):
            raise ValueError(answer)
        return answer

    def _ask(self, path: Path, shape: tuple[int, ...], deadline: float) -> NDArray | str:
        """The array, or why there is none."""
        process = self._running()
        self._number += 1
        request = f"{self._number} {os.fsencode(path.absolute()).hex()}\n"
        try:
            with _ended_at(deadline, process):
                _write(process, request.encode())
                return _read_answer(self._answers, self._number, shape)
        except (OSError, ValueError, TypeError) as error:
            if time.monotonic() >= deadline:
                raise RadiographError(
                    f"its pixel data takes more than {_PATIENCE:.0f} seconds to decode, as damaged "
                    "data can; copy the file again"
                ) from error
            raise _DecoderEndedError from error

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = _start()
            # Unlike one that writes, a reader's buffer does no harm when a fork copies it.
            self._answers = io.BufferedReader(cast(io.RawIOBase, self._process.stdout))
        return self._process

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


def _start() -> "subprocess.Popen[bytes]":
    paths = [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        # -P: nothing is imported from the folder the user happens to be in.
        [sys.executable, "-P", "-W", "ignore", "-m", _SERVER],
        bufsize=0,  # nothing that a fork would copy
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        # Windows would open a window for it.
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


@contextmanager
def _ended_at(deadline: float, process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Ends the process at the deadline, and with it whatever is waited for inside."""
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _write(process: "subprocess.Popen[bytes]", request: bytes) -> None:
    assert process.stdin is not None
    while request:
        request = request[process.stdin.write(request) :]


def _read_answer(
    answers: io.BufferedReader | None, number: int, shape: tuple[int, ...]
) -> NDArray | str:
    """The answer to the question of that number.

    Raises:
        ValueError, TypeError, OSError: there is none, or it is another one's.
        RadiographError: the image has another size than `shape`.
    """
    assert answers is not None
    line = answers.readline().decode("utf-8")
    said, kind, rest = line.rstrip("\n").split(" ", 2)
    if not line.endswith("\n") or int(said) != number or kind not in ("array", "error"):
        raise ValueError("half an answer, or one to another question")
    if kind == "error":
        return rest
    dtype, *sides = rest.split(" ")
    if tuple(map(int, sides)) != shape:
        raise RadiographError("the DICOM header and the image inside disagree on its size")
    values = np.empty(shape, dtype)
    if answers.readinto(values.data.cast("B")) != values.nbytes:
        raise ValueError("half an answer")
    return values
