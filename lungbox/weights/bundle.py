"""A folder with everything that a machine without internet needs to run ensembles."""

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from lungbox.errors import LungboxError
from lungbox.paths import requirements_file, shipped_checkpoints
from lungbox.weights import pins
from lungbox.weights.collection import members_of
from lungbox.weights.computation import keys_of
from lungbox.weights.entries import Precisions
from lungbox.weights.fetch import Watch, cached, fetch, fetch_all
from lungbox.weights.files import WeightsError
from lungbox.weights.manifest import (
    NAME,
    File,
    Manifest,
    Weights,
    load_manifest,
    read_as_written,
    read_manifest,
    shipped_path,
    write_manifest,
)

# The terms of Lungbox's own weights, which lie beside them wherever they go.
_TERMS = "LICENSE.txt"


def bundle(
    folder: Path,
    names: list[str],
    wheels: bool,
    watch: Watch = lambda _: lambda *_: None,
) -> list[Path]:
    """Make a folder with everything a machine without internet needs to run ensembles.

    There, `LUNGBOX_BUNDLE=FOLDER` makes its weights and entries known, and `pip install --no-index
    --find-links FOLDER/wheels -r FOLDER/requirements.txt lungbox` installs the wheels.

    Args:
        folder: is made; one that is a bundle already gets what it lacks.
        names: ensembles or weight files.
        wheels: also download every pinned requirement for this Python and platform, and build
            Lungbox's own wheel where this is a clone.
        watch: see `fetch`.

    Returns:
        The files of weights in it.

    Raises:
        WeightsError: weights cannot be had, or the folder holds something else.
        LungboxError: pip cannot make the wheels.
    """
    _check_folder(folder)
    manifest, files = load_manifest(), members_of(names)
    paths = fetch_all(files, manifest, watch)
    int8 = _fetch_int8(names, manifest, watch)
    folder.mkdir(parents=True, exist_ok=True)
    copied, pinned = [], {}
    for name, path in zip(files, paths, strict=True):
        weights = manifest.weights[name]
        copied.append(_copy(folder, path, name, weights))
        if not weights.sha256 and (pin := pins.expected(name, weights)):
            source = f"file:{copied[-1].name}" if pin.local else pin.source
            pinned[name] = pins.Pin(pin.sha256, pin.bytes, source)
    for key, path in int8.items():
        known = manifest.precisions[key]
        assert known.int8 is not None
        copied.append(_copy(folder, path, known.int8_name, known.int8))
    if any(name in read_manifest(shipped_path()).weights for name in files):
        shutil.copyfile(shipped_checkpoints() / _TERMS, folder / _TERMS)
    pins.write(folder / pins.NAME, pins.read(folder / pins.NAME) | pinned)
    _write_entries(folder, manifest, names, files, set(int8))
    shutil.copyfile(requirements_file(), folder / "requirements.txt")
    if wheels:
        _make_wheels(folder)
    return copied


def own_wheel(folder: Path) -> Path | None:
    """Lungbox's own wheel in a bundle."""
    return next(iter(sorted((folder / "wheels").glob("lungbox-*.whl"))), None)


def _check_folder(folder: Path) -> None:
    """Check that the folder is new, empty or a bundle, whose two files of entries it then has."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise WeightsError(f"{folder}: is a file; name a folder to make")
    made = (folder / NAME).is_file() and (folder / pins.NAME).is_file()
    if any(folder.iterdir()) and not made:
        raise WeightsError(f"{folder}: is not empty and no bundle; name a new folder")


def _write_entries(
    folder: Path, manifest: Manifest, names: list[str], files: list[str], int8: set[str]
) -> None:
    """Enter what is not Lungbox's own, beside what an earlier bundle left there."""
    shipped, earlier = read_manifest(shipped_path()), read_as_written(folder / NAME)
    weights = {
        name: _portable(name, manifest.weights[name])
        for name in files
        if name not in shipped.weights
    }
    ensembles = {
        name: manifest.ensembles[name]
        for name in names
        if name in manifest.ensembles and name not in shipped.ensembles
    }
    precisions = {
        key: _portable_int8(manifest.precisions[key], key in int8)
        for key in sorted(keys_of(manifest, names))
    }
    both = Manifest(
        weights=earlier.weights | weights,
        ensembles=earlier.ensembles | ensembles,
        precisions=earlier.precisions | precisions,
    )
    write_manifest(both, folder / NAME)


def _fetch_int8(names: list[str], manifest: Manifest, watch: Watch) -> dict[str, Path]:
    """The INT8 models of these ensembles, by their entries' keys; one that cannot
    be had is left out, for everything runs without."""
    found = {}
    for key in sorted(keys_of(manifest, names)):
        known = manifest.precisions[key]
        if known.int8:
            with suppress(WeightsError):
                found[key] = fetch(known.int8_name, known.int8, watch)
    return found


def _copy(folder: Path, path: Path, name: str, file: File) -> Path:
    target = folder / cached(name, file).name
    if path.resolve() != target.resolve():
        shutil.copyfile(path, target)
    return target


def _portable_int8(known: Precisions, there: bool) -> Precisions:
    """As `_portable`; without a network that is not `there`."""
    if known.int8 is None or not there:
        return known.model_copy(update={"int8": None})
    sources = _portable_sources(known.int8_name, known.int8)
    return known.model_copy(update={"int8": known.int8.model_copy(update={"sources": sources})})


def _portable(name: str, weights: Weights) -> Weights:
    """The entry without paths of this machine: its file is beside it."""
    sources = _portable_sources(name, weights)
    recipe = Path(weights.recipe).name if Path(weights.recipe).is_absolute() else weights.recipe
    return weights.model_copy(update={"sources": sources, "recipe": recipe})


def _portable_sources(name: str, file: File) -> tuple[str, ...]:
    remote = (source for source in file.sources if not source.startswith("file:"))
    return f"file:{cached(name, file).name}", *remote


def _make_wheels(folder: Path) -> None:
    wheels = folder / "wheels"
    download = ["download", "--only-binary", ":all:", "--dest", str(wheels)]
    _pip([*download, "--requirement", str(folder / "requirements.txt")], wheels)
    clone = shipped_checkpoints().parent
    if (clone / "pyproject.toml").is_file():
        _pip(["wheel", "--no-deps", "--wheel-dir", str(wheels), str(clone)], wheels)


def _pip(arguments: list[str], wheels: Path) -> None:
    if subprocess.run([sys.executable, "-m", "pip", *arguments], check=False).returncode:
        raise LungboxError(f"pip could not make the wheels in {wheels}; it says why above")
