"""The process GDCM runs in: paths in hexadecimal come in, a line each; arrays go out.

An answer is `array DTYPE HEIGHT WIDTH [SAMPLES]` and the values, or `error REASON`.
"""

import os
import sys
from pathlib import Path
from typing import IO

import numpy as np
from pydicom.pixels import pixel_array

from lungbox.radiograph.header import read_header
from lungbox.radiograph.types import brief


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there are no more requests."""
    for line in requests:
        try:
            path = Path(os.fsdecode(bytes.fromhex(line.decode())))
            # The header's gaps are filled as they are for every other decoder.
            values = np.ascontiguousarray(pixel_array(read_header(path), decoding_plugin="gdcm"))
        except Exception as error:  # decoders raise whatever they like on damaged data
            # What pydicom's wrapper says where GDCM hands back nothing.
            reason = "gdcm gives no pixels" if "'NoneType'" in str(error) else brief(error)
            answers.write(f"error {' '.join(reason.split())}\n".encode(errors="replace"))
        else:
            shape = " ".join(map(str, values.shape))
            answers.write(f"array {values.dtype.str} {shape}\n".encode())
            answers.write(values.data)
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
