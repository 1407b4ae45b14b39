"""Files: atomic writing, listing, detecting changes."""

import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PARTIAL = ".new-"


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO]:
    """Open a temporary file for writing that replaces `path` when the block ends.

    Text is UTF-8, line ends as they are written. If anything is raised, `path` stays as it was.

    Raises:
        OSError: the disk is full, for instance; `path` is its `filename`.
    """
    with named_in_errors(path):
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
def named_in_errors(path: Path) -> Iterator[None]:
    """Let an `OSError` name `path` where it names no file or a temporary one: a failed write to an
    open file does not name it."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(str(error.filename)).name.startswith(_PARTIAL):
            error.filename, error.filename2 = str(path), None
        raise


def describe_os_error(error: OSError) -> str:
    """The message of an operating system error, with the file's name."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def stamp(path: Path) -> tuple[int, int] | None:
    """A file's size in bytes and modification time in nanoseconds; None where it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def walk_files(folder: Path, avoided: Collection[Path] = ()) -> Iterator[Path]:
    """Every file in `folder` and its subfolders, and the folders that cannot be opened.

    Links to folders are followed, once each. Folders whose name starts with a dot, and
    `__MACOSX`, are left out.

    Args:
        folder: where to start.
        avoided: folders that are not searched, as `Path.resolve` gives them.
    """
    closed: list[Path] = []
    seen = set(avoided)
    walk = os.walk(
        folder,
        followlinks=True,
        onerror=lambda error: closed.append(Path(error.filename or folder)),
    )
    for name, inner, files in walk:
        here = Path(name)
        real = here.resolve()
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "__MACOSX")
        if not os.access(here, os.X_OK):
            # Its files can be listed, but not read.
            closed.append(here)
            inner.clear()
            continue
        yield from (here / name for name in files)
    yield from closed
