"""Decoding by GDCM, in a process of its own.

GDCM is the only permissive decoder of lossless JPEG, and on damaged data it may end the process
it runs in. So it runs in one beside ours: what it ends is a file's decoding, not the run.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import IO

import numpy as np
from numpy.typing import NDArray

from lungbox.radiograph.types import RadiographError

_PACKAGE_ROOT = Path(__file__).parent.parent.parent
_SERVER = "lungbox.radiograph.decoder_process"
_local = threading.local()
# Seconds for one image; the largest takes two or three.
_PATIENCE = 60.0


def decode_apart(path: Path) -> NDArray:
    """The pixels of a DICOM file as GDCM decodes them.

    Each thread has a process of its own, started when it is first needed.

    Raises:
        RadiographError: they cannot be decoded, or the decoder did not survive trying.
    """
    if not hasattr(_local, "decoder"):
        _local.decoder = _Decoder()
    return _local.decoder.decode(path)


def _readable(pipe: IO[bytes]) -> bool:
    """Whether anything comes in time; the end counts, too."""
    with DefaultSelector() as selector:
        selector.register(pipe, EVENT_READ)
        return bool(selector.select(_PATIENCE))


class _Decoder:
    """One process that is sent paths and sends back arrays."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, path: Path) -> NDArray:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(os.fsencode(path.absolute()).hex().encode() + b"\n")
            process.stdin.flush()
            if not _readable(process.stdout):
                raise ValueError("no answer")
            kind, _, answer = process.stdout.readline().decode("utf-8").strip().partition(" ")
            if kind == "array":
                dtype, *shape = answer.split()
                count = int(np.prod([int(side) for side in shape]))
                content = process.stdout.read(count * np.dtype(dtype).itemsize)
                return np.frombuffer(content, dtype, count).reshape([int(side) for side in shape])
        except (OSError, ValueError):
            kind = ""
        if kind == "error":
            raise ValueError(answer)
        self._end()
        raise RadiographError("the pixel data is damaged so badly that its decoder breaks down")

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._end()
            paths = [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]
            self._process = subprocess.Popen(
                # -P: nothing is imported from the folder the user happens to be in.
                [sys.executable, "-P", "-W", "ignore", "-m", _SERVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __del__(self) -> None:
        self._end()
