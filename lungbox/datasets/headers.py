"""Headers of many files, read once and cached: a challenge has 26,684 of them."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path

from rich.console import Console

from lungbox.common.files import atomic_write, stamp
from lungbox.common.paths import cache_folder
from lungbox.common.progress import progress_bar
from lungbox.radiograph import HeaderMetadata, RadiographError, read_metadata

# Raise it when `radiograph.read_metadata` returns something else for the same file.
_VERSION = 2
# Reading waits for the disk, or the network, more than it computes.
_THREADS = 8

# A file's stamp, then the fields of its `HeaderMetadata`.
_Entry = list


def read_headers(
    folder: Path, paths: Sequence[Path], console: Console | None = None
) -> tuple[dict[Path, HeaderMetadata], dict[Path, str]]:
    """The header of every file, from the cache of `folder` where the file has not changed.

    The cache is a table under `common.paths.cache_folder()`; where reading is stopped, it has what
    was read until then. A file that could not be read is tried again each time.

    Args:
        folder: the data set's.
        paths: files in it.
        console: where a bar is shown while files are read.

    Returns:
        The headers, and for the other files the reason why there is none.
    """
    name = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    table_path = cache_folder() / "headers" / f"{name[:24]}-{_VERSION}.json"
    table = _load(table_path)
    names = {path: str(path.relative_to(folder)) for path in paths}
    stamps = {path: list(stamp(path) or ()) for path in paths}
    new = [path for path in paths if table.get(names[path], [None])[0] != stamps[path]]
    failed: dict[Path, str] = {}

    def read_one(path: Path) -> None:
        try:
            table[names[path]] = [stamps[path], *astuple(read_metadata(path))]
        except RadiographError as error:
            table.pop(names[path], None)
            failed[path] = str(error)

    if new:
        try:
            with (
                progress_bar(
                    console or Console(quiet=True), "Reading headers", len(new)
                ) as progress,
                ThreadPoolExecutor(_THREADS) as pool,
            ):
                for _ in pool.map(read_one, new):
                    progress.advance()
        finally:
            _save(table_path, table)
    return {path: _metadata(table[names[path]]) for path in paths if path not in failed}, failed


def _metadata(entry: _Entry) -> HeaderMetadata:
    _, size, *rest = entry
    return HeaderMetadata((int(size[0]), int(size[1])), *rest)


def _load(path: Path) -> dict[str, _Entry]:
    """The table; empty where it is damaged, for it can always be made again."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _save(path: Path, table: dict[str, _Entry]) -> None:
    # Without the table the next load is slow, no more.
    with suppress(OSError), atomic_write(path) as file:
        json.dump(table, file, separators=(",", ":"))
