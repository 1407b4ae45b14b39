"""Writing files so that a reader sees the old one or the new, never a part."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PARTIAL = ".new-"


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO]:
    """Open a file beside `path` for writing, and put it in its place when all is written.

    Text is UTF-8, line ends as they are written. If anything is raised, `path` stays as it was.

    Raises:
        OSError: the disk is full, for instance; `path` is its `filename`.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{_PARTIAL}{secrets.token_hex(8)}")
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
        # A new file opened by name gets the user's permissions from the system. Files of `tempfile`
        # are private, and to widen them one has to know the umask, which cannot be read without
        # being changed for all threads.
        file = partial.open(mode.replace("w", "x"), encoding=encoding, newline=newline)
        try:
            with file:
                yield file
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an `OSError` name `path` where it names nothing, or a temporary file in its place: what
    is written to an open file fails without its name."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(str(error.filename)).name.startswith(_PARTIAL):
            error.filename, error.filename2 = str(path), None
        raise


def sentence(error: OSError) -> str:
    """What the operating system refused, and of which file."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason
