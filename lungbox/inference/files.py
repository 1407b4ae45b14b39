"""Finding image files in a folder, and their names in every output."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lungbox.common.files import stamp, walk_files
from lungbox.radiograph import identity

# Files of operating systems and DICOM media that are no images.
_CLUTTER = {"thumbs.db", "desktop.ini", "dicomdir"}


@dataclass(frozen=True)
class ImageFile:
    """One file to read.

    Attributes:
        path: the file.
        identity: its name in every output.
        relative: its path below the folder. Both names are printable: other characters, and bytes
            that are not UTF-8, are escaped.
        stamp: size and modification time, to detect changes.
    """

    path: Path
    identity: str
    relative: str
    stamp: str = ""


def find_image_files(path: Path, excluded: Path | None = None) -> tuple[list[ImageFile], list[str]]:
    """The files in a folder and its subfolders, or the one file.

    Links to folders are followed, once each. Hidden files are left out. What is not a file (a named
    pipe, a socket, a device, a broken link) and folders that cannot be opened are listed, and fail
    when they are read.

    Args:
        path: a folder or a file.
        excluded: the folder of the results, which is not searched.

    Returns:
        The files sorted by identity, and the identities that several files share: these files
        have their path below the folder as identity instead.
    """
    if not path.is_dir():
        name = _printable(path.name)
        return [ImageFile(path, _printable(identity(path)), name, _stamp(path))], []
    results = excluded.resolve() if excluded is not None else None
    inside = results is not None and path.resolve() in results.parents
    files = dict.fromkeys(walk_files(path, {results} if inside and results else ()))
    paths = [file for file in files if _is_wanted(file)]
    relatives = _all_printable([file.relative_to(path).as_posix() for file in paths])
    names = [_printable(identity(file)) for file in paths]
    identities, shared = _distinct(names, relatives)
    sources = map(ImageFile, paths, identities, relatives, map(_stamp, paths))
    return sorted(sources, key=lambda source: source.identity), shared


def _distinct(names: list[str], relatives: list[str]) -> tuple[list[str], list[str]]:
    """A name for each file that no other has: its own, or its path where that is shared.

    No two of the `relatives` may be equal.
    """
    chosen = list(names)
    shared: set[str] = set()
    while True:
        duplicates = {name for name, count in Counter(chosen).items() if count > 1}
        if not duplicates:
            return chosen, sorted(shared)
        shared |= duplicates
        # Paths differ, so each round gives at least one more file its path, until all do.
        chosen = [
            path if name in duplicates else name
            for name, path in zip(chosen, relatives, strict=True)
        ]


def _is_wanted(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower() not in _CLUTTER


def _stamp(path: Path) -> str:
    values = stamp(path)
    return "gone" if values is None else "{}-{}".format(*values)


def _all_printable(names: list[str]) -> list[str]:
    r"""Names that differ, escaped so that they still do.

    A line end and the letters `\n` are equal once escaped; only then backslashes in names are
    written twice.
    """
    printable = [_printable(name) for name in names]
    if len(set(printable)) == len(names):
        return printable
    return [_printable(name.replace("\\", "\\\\")) for name in names]


def _printable(name: str) -> str:
    """Escape what breaks tables (line ends) or cannot be written (bytes that are not UTF-8)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
