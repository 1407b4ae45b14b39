"""Starting Keras without what its backend tells the world while it loads."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def start_keras() -> None:
    """Import Keras and its backend, quietly.

    TensorFlow writes about processors and missing GPU drivers to standard error before it can be
    told not to, past Python; what goes wrong still arrives as an exception.
    """
    if "keras" in sys.modules:
        return
    with _silent_standard_error():
        import keras

        # The first operation makes the backend look for its devices.
        keras.ops.zeros(1)


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Build networks under a Keras dtype policy, and leave the global one as it was."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def _silent_standard_error() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
