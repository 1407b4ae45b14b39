"""What the headers of many files say, read once and kept: a challenge has 26,684 of them."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path

from rich.console import Console

from lungbox.files import replacing
from lungbox.paths import cache_folder
from lungbox.progress import bar
from lungbox.radiograph import Facts, RadiographError, facts

# Raise it when `radiograph.facts` says something else of the same file.
_VERSION = 1
# They wait for the disk, or the network, more than they compute.
_THREADS = 8

# A file's stamp (bytes, time of change), then its facts.
_Entry = list


def read_headers(
    folder: Path, paths: Sequence[Path], say: Console | None = None
) -> tuple[dict[Path, Facts], dict[Path, str]]:
    """The facts of every file, from the table of `folder` where the file is as it was.

    The table is kept under `lungbox.paths.cache_folder()`, also of what was read when the reading
    is stopped. A file that could not be read is tried again each time.

    Args:
        folder: the data set's.
        paths: files in it.
        say: where a bar is shown while files are read.

    Returns:
        The facts, and why there are none of the other files.
    """
    name = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    table_path = cache_folder() / "headers" / f"{name[:24]}-{_VERSION}.json"
    table = _load(table_path)
    names = {path: str(path.relative_to(folder)) for path in paths}
    stamps = {path: _stamp(path) for path in paths}
    new = [path for path in paths if table.get(names[path], [None])[0] != stamps[path]]
    failed: dict[Path, str] = {}

    def one(path: Path) -> None:
        try:
            table[names[path]] = [stamps[path], *astuple(facts(path))]
        except RadiographError as error:
            table.pop(names[path], None)
            failed[path] = str(error)

    if new:
        try:
            with (
                bar(say or Console(quiet=True), "Reading headers", len(new)) as progress,
                ThreadPoolExecutor(_THREADS) as pool,
            ):
                for _ in pool.map(one, new):
                    progress.advance()
        finally:
            _keep(table_path, table)
    return {path: _facts(table[names[path]]) for path in paths if path not in failed}, failed


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []  # like no file that is there; reading it says what is wrong
    return [status.st_size, status.st_mtime_ns]


def _facts(entry: _Entry) -> Facts:
    _, size, *rest = entry
    return Facts((int(size[0]), int(size[1])), *rest)


def _load(path: Path) -> dict[str, _Entry]:
    """The table, without what in it is damaged: it can always be made again."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _keep(path: Path, table: dict[str, _Entry]) -> None:
    # Without the table the next load is slow, and that is all.
    with suppress(OSError), replacing(path) as file:
        json.dump(table, file, separators=(",", ":"))
