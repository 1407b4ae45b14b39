"""Folders with all that a machine without internet needs to run ensembles."""

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from lungbox.common.paths import requirements_file, shipped_checkpoints
from lungbox.errors import LungboxError
from lungbox.weights.collection import members_of
from lungbox.weights.entries import File, Int8Entry, Manifest, Weights
from lungbox.weights.formats.safetensors import WeightsError
from lungbox.weights.manifest import (
    NAME,
    load_manifest,
    read_as_written,
    read_manifest,
    shipped_path,
    write_manifest,
)
from lungbox.weights.store import (
    PINS,
    Pin,
    Watch,
    cached,
    expected_pin,
    fetch,
    fetch_all,
    int8_files,
    precision_keys,
    read_pins,
    write_pins,
)

# The terms of use of Lungbox's own weights.
_TERMS = "LICENSE.txt"
_F = TypeVar("_F", Weights, Int8Entry)


def bundle(
    folder: Path,
    names: list[str],
    wheels: bool,
    watch: Watch = lambda _: lambda *_: None,
) -> list[Path]:
    """Make a folder with all that a machine without internet needs to run ensembles.

    There, `LUNGBOX_BUNDLE=FOLDER` registers its weights and ensembles, and `pip install --no-index
    --find-links FOLDER/wheels -r FOLDER/requirements.txt lungbox` installs the wheels.

    Args:
        folder: is made; what a bundle there lacks is added.
        names: ensembles or weight files.
        wheels: also download every pinned requirement for this Python and platform, and build
            Lungbox's own wheel where this is a clone.
        watch: see `store.fetch`.

    Returns:
        Its weight files.

    Raises:
        WeightsError: weights are unavailable, or the folder holds something else.
        LungboxError: pip failed.
    """
    _check_folder(folder)
    manifest, members = load_manifest(), members_of(names)
    paths = fetch_all(members, manifest, watch)
    int8 = _fetch_int8(names, manifest, watch)
    folder.mkdir(parents=True, exist_ok=True)
    copies, pins = [], {}
    for name, path in zip(members, paths, strict=True):
        weights = manifest.weights[name]
        copies.append(_copy(folder, path, name, weights))
        if not weights.sha256 and (pin := expected_pin(name, weights)):
            source = f"file:{copies[-1].name}" if pin.local else pin.source
            pins[name] = Pin(pin.sha256, pin.bytes, source)
    for name, (model, path) in int8.items():
        copies.append(_copy(folder, path, name, model))
    shipped = read_manifest(shipped_path())
    if any(name in shipped.weights for name in members):
        shutil.copyfile(shipped_checkpoints() / _TERMS, folder / _TERMS)
    write_pins(folder / PINS, read_pins(folder / PINS) | pins)
    _write_manifest(folder, manifest, shipped, names, members, set(int8))
    shutil.copyfile(requirements_file(), folder / "requirements.txt")
    if wheels:
        _make_wheels(folder)
    return copies


def own_wheel(folder: Path) -> Path | None:
    """Lungbox's own wheel in a bundle."""
    return next(iter(sorted((folder / "wheels").glob("lungbox-*.whl"))), None)


def _check_folder(folder: Path) -> None:
    """Check that the folder is new, empty, or a bundle."""
    if folder.exists() and not folder.is_dir():
        raise WeightsError(f"{folder}: is a file; name a folder to make")
    is_bundle = (folder / NAME).is_file() and (folder / PINS).is_file()
    if folder.exists() and any(folder.iterdir()) and not is_bundle:
        raise WeightsError(f"{folder}: is neither empty nor a bundle; name a new folder")


def _fetch_int8(
    names: list[str], manifest: Manifest, watch: Watch
) -> dict[str, tuple[Int8Entry, Path]]:
    """The INT8 models of these ensembles, by name, without those that are unavailable: ensembles
    run without."""
    found = {}
    for name, model in int8_files(manifest, names).items():
        with suppress(WeightsError):
            found[name] = model, fetch(name, model, watch)
    return found


def _copy(folder: Path, path: Path, name: str, file: File) -> Path:
    target = folder / cached(name, file).name
    if path.resolve() != target.resolve():
        shutil.copyfile(path, target)
    return target


def _write_manifest(
    folder: Path,
    manifest: Manifest,
    shipped: Manifest,
    names: list[str],
    members: list[str],
    int8: set[str],
) -> None:
    """Add the entries that are not shipped with Lungbox to the bundle's manifest."""
    bundled = read_as_written(folder / NAME)
    for name in members:
        if name not in shipped.weights:
            bundled.weights[name] = _portable(name, manifest.weights[name])
    for name in names:
        if name in manifest.ensembles and name not in shipped.ensembles:
            bundled.ensembles[name] = manifest.ensembles[name]
    for key in sorted(precision_keys(manifest, names)):
        checks = manifest.precisions[key]
        model = checks.int8 if checks.int8_name in int8 else None
        model = model and _portable(checks.int8_name, model)
        bundled.precisions[key] = checks.model_copy(update={"int8": model})
    write_manifest(bundled, folder / NAME)


def _portable(name: str, file: _F) -> _F:
    """The entry without paths of this machine: its file is beside the manifest."""
    remote: list[str] = [source for source in file.sources if not source.startswith("file:")]
    update: dict[str, object] = {"sources": (f"file:{cached(name, file).name}", *remote)}
    if Path(file.recipe).is_absolute():
        update["recipe"] = Path(file.recipe).name
    return file.model_copy(update=update)


def _make_wheels(folder: Path) -> None:
    wheels = folder / "wheels"
    download = ["download", "--only-binary", ":all:", "--dest", str(wheels)]
    _pip([*download, "--requirement", str(folder / "requirements.txt")], wheels)
    clone = shipped_checkpoints().parent
    if (clone / "pyproject.toml").is_file():
        _pip(["wheel", "--no-deps", "--wheel-dir", str(wheels), str(clone)], wheels)


def _pip(arguments: list[str], wheels: Path) -> None:
    if subprocess.run([sys.executable, "-m", "pip", *arguments], check=False).returncode:
        raise LungboxError(f"pip could not make the wheels in {wheels}; see its message above")
