"""pydicom, imported so that folders named `dl` beside a user's script do no harm.

pydicom imports GDCM where it is installed, and GDCM imports `dl`, a module that Python no longer
has: a folder of that name in the import path would be imported in its place, and GDCM, and with it
pydicom, would fail. Must be imported before anything that imports pydicom.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NAMES = ("dl", "DLFCN")


@contextmanager
def _not_found(names: tuple[str, ...]) -> Iterator[None]:
    """Inside, modules of these names cannot be imported."""
    before = {name: sys.modules[name] for name in names if name in sys.modules}
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]  # None: not found
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(before)


with _not_found(_NAMES):
    import pydicom
    import pydicom.pixels  # noqa: F401
