"""The process that decodes compressed pixel data: questions come in, a line each; pixels go out.

A question is `NUMBER PATH`, the path in hexadecimal. Its answer begins with the same number:
`NUMBER array DTYPE HEIGHT WIDTH [SAMPLES]` and the values, or `NUMBER error REASON`.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels import pixel_array

from lungbox.radiograph import plugin
from lungbox.radiograph.header import read_header
from lungbox.radiograph.types import brief

# Bytes that decoding may take beyond what the process has when it starts: enough for one channel of
# 100 megapixels in any transfer syntax (JPEG 2000 takes 700 MB), and with the process that started
# this one less than 1.5 GB.
MEMORY = 950_000_000
# Seconds after which a question is given up. The process that asked it waits for less, but may have
# been ended meanwhile.
_PATIENCE = 40


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there are no more requests."""
    for line in requests:
        _give_up_in(_PATIENCE)
        number, path = line.split()
        try:
            values = _decode(Path(os.fsdecode(bytes.fromhex(path.decode()))))
        except Exception as error:  # decoders raise whatever they like on damaged data
            answers.write(number + f" error {_reason(error)}\n".encode(errors="replace"))
        else:
            shape = " ".join(map(str, values.shape))
            answers.write(number + f" array {values.dtype.str} {shape}\n".encode())
            answers.write(values.data)
            del values  # before the next is decoded
        answers.flush()
        _give_up_in(0)


def _decode(path: Path) -> NDArray:
    # The header's gaps are filled as they are for every other decoder.
    dataset = read_header(path)
    return np.ascontiguousarray(pixel_array(dataset, decoding_plugin=plugin.name_for(dataset)))


def _reason(error: Exception) -> str:
    said = " ".join(brief(error).split())
    # Of a decoder that has no memory left pydicom gives the name and nothing more.
    if isinstance(error, MemoryError) or said in plugin.NAMES:
        return "it takes more memory than a radiograph"
    return said


def _give_up_in(seconds: int) -> None:
    """End this process then, whatever it is doing; 0 takes that back. Windows has no such clock."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def _limit_memory() -> None:
    """Where the system has such a limit and says what is taken already: on Linux."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Serve the process that started this one, until it closes the pipe or ends."""
    # Whoever interrupts the run means the run, which then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints is no answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    plugin.register()
    _limit_memory()
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
