"""The process GDCM runs in: paths in hexadecimal come in, a line each; arrays go out.

An answer is `array DTYPE HEIGHT WIDTH [SAMPLES]` and the values, or `error REASON`.
"""

import os
import sys
from typing import IO

import numpy as np
from pydicom.pixels import pixel_array


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there are no more requests."""
    for line in requests:
        try:
            path = os.fsdecode(bytes.fromhex(line.decode()))
            values = np.ascontiguousarray(pixel_array(path, decoding_plugin="gdcm"))
        except Exception as error:  # decoders raise whatever they like on damaged data
            answers.write(f"error {' '.join(str(error).split())}\n".encode())
        else:
            shape = " ".join(map(str, values.shape))
            answers.write(f"array {values.dtype.str} {shape}\n".encode())
            answers.write(values.data)
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
