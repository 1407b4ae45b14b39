"""The process that decodes compressed pixel data: images come in, arrays go out.

It writes `ready` once it has started. A request is the line `NUMBER BYTES HEADER`, the header in
JSON, and the pixel data. Its answer begins with the same number: `NUMBER array DTYPE HEIGHT WIDTH
[SAMPLES]` and the values, or `NUMBER error REASON`.
"""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import pixel_array

from lungbox.radiograph.codecs import plugin
from lungbox.radiograph.codecs.client import READY
from lungbox.radiograph.types import short_message

# Bytes that decoding may take beyond what the process has when it starts: enough for one channel of
# 100 megapixels in any transfer syntax (JPEG 2000 takes 700 MB), and with the process that started
# this one less than 1.5 GB.
MEMORY = 950_000_000
# Seconds after which a request is given up. The process that sent it waits for less, but may have
# been killed meanwhile.
_TIMEOUT = 40


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there are no more requests."""
    answers.write(READY)
    answers.flush()
    while line := requests.readline():
        _exit_after(_TIMEOUT)
        number, length, header = line.split(b" ", 2)
        try:
            values = _decode(json.loads(header), requests.read(int(length)))
        except Exception as error:  # decoders raise whatever they like on damaged data
            answers.write(number + f" error {_reason(error)}\n".encode(errors="replace"))
        else:
            shape = " ".join(map(str, values.shape))
            answers.write(number + f" array {values.dtype.str} {shape}\n".encode())
            answers.write(values.data)
            del values  # before the next is decoded
        answers.flush()
        _exit_after(0)


def _decode(header: dict[str, Any], pixel_data: bytes) -> NDArray:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = header.pop("TransferSyntaxUID")
    for name, value in header.items():
        setattr(dataset, name, value)
    dataset.add_new("PixelData", "OB", pixel_data)
    return np.ascontiguousarray(pixel_array(dataset, decoding_plugin=plugin.name_for(dataset)))


def _reason(error: Exception) -> str:
    message = " ".join(short_message(error).split())
    # Of a decoder that has no memory left pydicom gives the name and nothing more.
    if isinstance(error, MemoryError) or message in plugin.NAMES:
        return "it takes more memory than a radiograph"
    return message


def _exit_after(seconds: int) -> None:
    """End this process then, whatever it is doing; 0 cancels that. Windows has no such clock."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def _limit_memory() -> None:
    """On Linux, which has such a limit and reports the memory in use."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Serve the process that started this one, until it closes the pipe or ends."""
    # Ctrl-C is meant for the run, which then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints is no answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    plugin.register()
    _limit_memory()
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
