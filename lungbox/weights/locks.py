"""Files that several processes read, change and write: one at a time."""

from pathlib import Path

from filelock import FileLock


def locked(path: Path) -> FileLock:
    """The lock of `path`, to be held while it is read, changed and written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"))
