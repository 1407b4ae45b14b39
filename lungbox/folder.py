"""Which files a folder holds, and what each is called in every output."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lungbox.radiograph import identity

# What operating systems and DICOM media leave beside the images: never meant to be read.
_CLUTTER = {"thumbs.db", "desktop.ini", "dicomdir"}


@dataclass(frozen=True)
class Source:
    """One file to read.

    Attributes:
        path: the file.
        identity: what it is called in every output.
        relative: its path below the folder. Both names are printable: characters that are not,
            and bytes that are no UTF-8, are escaped.
        stamp: changes when the file does.
    """

    path: Path
    identity: str
    relative: str
    stamp: str = ""


def gather(place: Path, leave_out: Path | None = None) -> tuple[list[Source], list[str]]:
    """Every file in `place` and the folders in it, or `place` itself where it is no folder.

    Links to folders are followed, once each. Hidden files are left out. What is no file (a named
    pipe, a socket, a device, a link to nothing), and a folder that may not be entered, stand for
    themselves, and fail when they are read.

    Args:
        place: a folder or a file.
        leave_out: where results go; a folder inside `place` is not searched.

    Returns:
        The sources sorted by identity, and the identities that several files share: these files
        are each called by their path below `place` instead.
    """
    if not place.is_dir():
        name = _printable(place.name)
        return [Source(place, _printable(identity(place)), name, _stamp(place))], []
    avoided = leave_out.resolve() if leave_out is not None else None
    here = place.resolve()
    inside = avoided is not None and here in avoided.parents
    found = dict.fromkeys(_walk(place, {avoided} if inside else set()))
    paths = [path for path in found if _wanted(path)]
    relatives = _all_printable([path.relative_to(place).as_posix() for path in paths])
    names = [_printable(identity(path)) for path in paths]
    chosen, shared = _distinct(names, relatives)
    facts = zip(paths, chosen, relatives, map(_stamp, paths), strict=True)
    sources = [Source(*fact) for fact in facts]
    return sorted(sources, key=lambda source: source.identity), shared


def _distinct(names: list[str], relatives: list[str]) -> tuple[list[str], list[str]]:
    """A name for each file that no other has: its own, or its path where that is shared.

    No two of the `relatives` may be equal.
    """
    chosen = list(names)
    shared: set[str] = set()
    while True:
        doubled = {name for name, count in Counter(chosen).items() if count > 1}
        if not doubled:
            return chosen, sorted(shared)
        shared |= doubled
        # Paths differ, so each round gives at least one more file its path, until all do.
        chosen = [
            path if name in doubled else name for name, path in zip(chosen, relatives, strict=True)
        ]


def _walk(place: Path, avoided: set[Path | None]) -> Iterator[Path]:
    """What is below `place` but folders, and the folders that may not be entered."""
    closed: list[Path] = []
    seen: set[Path] = set()
    walk = os.walk(
        place,
        followlinks=True,
        onerror=lambda error: closed.append(Path(error.filename or place)),
    )
    for folder, inner, files in walk:
        here = Path(folder)
        real = here.resolve()
        if real in seen or real in avoided:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "__MACOSX")
        if not os.access(here, os.X_OK):
            # Its files can be named, but none can be read.
            closed.append(here)
            inner.clear()
            continue
        yield from (here / name for name in files)
    yield from closed


def _wanted(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower() not in _CLUTTER


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "gone"
    return f"{status.st_size}-{status.st_mtime_ns}"


def _all_printable(names: list[str]) -> list[str]:
    r"""Names that differ, escaped so that they still do.

    A line end and the letters `\n` in its place look alike once escaped; only then is each
    backslash that stands in a name written twice.
    """
    printable = [_printable(name) for name in names]
    if len(set(printable)) == len(names):
        return printable
    return [_printable(name.replace("\\", "\\\\")) for name in names]


def _printable(name: str) -> str:
    """Line ends in a name would break tables, and bytes that are no UTF-8 cannot be written."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
