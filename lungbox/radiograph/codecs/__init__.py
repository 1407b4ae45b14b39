"""Decoders of compressed pixel data, and the import of pydicom that they share.

pydicom imports GDCM where it is installed, and GDCM imports `dl`, a module that Python no longer
has. A folder of that name beside a user's script would be imported in its place, and GDCM, and
with it pydicom, would fail. So this package is imported before anything that imports pydicom.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Let the import of modules of these names fail inside the `with` block."""
    before = {name: sys.modules[name] for name in names if name in sys.modules}
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]  # None: not found
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(before)


with _hidden("dl", "DLFCN"):
    import pydicom
    import pydicom.pixels  # noqa: F401
