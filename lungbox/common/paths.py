"""Locations of shipped files, caches and the user's data."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent


def shipped_checkpoints() -> Path:
    """The manifest and weights that come with Lungbox: `checkpoints/` of a clone, or the copy
    inside an installed package."""
    inside = _PACKAGE / "checkpoints"
    return inside if inside.is_dir() else _PACKAGE.parent / "checkpoints"


def shipped_recipes() -> Path:
    """The recipes that come with Lungbox: `recipes/` of a clone, or the copy inside an installed
    package."""
    inside = _PACKAGE / "recipes"
    return inside if inside.is_dir() else _PACKAGE.parent / "recipes"


def cache_folder() -> Path:
    """The cache: `LUNGBOX_CACHE`, or the user's cache folder."""
    return _folder("LUNGBOX_CACHE", "XDG_CACHE_HOME", ".cache")


def requirements_file() -> Path:
    """The exact pins of everything Lungbox needs."""
    inside = _PACKAGE / "requirements.txt"
    return inside if inside.is_file() else _PACKAGE.parent / "requirements.txt"


def weights_cache() -> Path:
    """The cache of downloaded weight files."""
    return cache_folder() / "weights"


def bundle_folders() -> list[Path]:
    """Folders of weight files made by `lungbox weights bundle`: `LUNGBOX_BUNDLE`, several of them
    separated as in `PATH`."""
    chosen = os.environ.get("LUNGBOX_BUNDLE", "")
    return [Path(part).expanduser() for part in chosen.split(os.pathsep) if part]


def data_folder() -> Path:
    """The user's own weights and manifest: `LUNGBOX_HOME`, or the user's data folder."""
    return _folder("LUNGBOX_HOME", "XDG_DATA_HOME", ".local/share")


def _folder(own: str, standard: str, default: str) -> Path:
    if chosen := os.environ.get(own):
        return Path(chosen).expanduser()
    base = os.environ.get(standard)
    return (Path(base) if base else Path.home() / default) / "lungbox"
