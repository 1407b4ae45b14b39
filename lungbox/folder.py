"""Which files a folder holds, and what each is called in every output."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lungbox.radiograph import identity

# What operating systems and DICOM media leave beside the images: never meant to be read.
_CLUTTER = {"thumbs.db", "desktop.ini", "dicomdir"}


@dataclass(frozen=True)
class Source:
    """One file to read, and the identity it has in every output."""

    path: Path
    identity: str
    relative: str


def gather(place: Path, leave_out: Path | None = None) -> tuple[list[Source], list[str]]:
    """Every file in `place` and the folders in it, or `place` itself where it is a file.

    Args:
        place: a folder or a file.
        leave_out: a folder inside it that is not searched, where results go.

    Returns:
        The sources sorted by identity, and the identities that several files share: these files
        are each called by their path below `place` instead. Hidden files are left out.
    """
    if place.is_file():
        return [Source(place, identity(place), place.name)], []
    avoided = leave_out.resolve() if leave_out is not None else None
    paths = [path for path in place.rglob("*") if path.is_file() and _wanted(path, place, avoided)]
    counts = Counter(identity(path) for path in paths)
    sources = []
    for path in paths:
        relative = path.relative_to(place).as_posix()
        name = identity(path)
        sources.append(Source(path, name if counts[name] == 1 else relative, relative))
    shared = sorted(name for name, count in counts.items() if count > 1)
    return sorted(sources, key=lambda source: source.identity), shared


def _wanted(path: Path, place: Path, avoided: Path | None) -> bool:
    parts = path.relative_to(place).parts
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    if path.name.lower() in _CLUTTER:
        return False
    return avoided is None or avoided == place.resolve() or avoided not in path.resolve().parents
