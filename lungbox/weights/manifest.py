"""The manifest: every known weight file, and the ensembles they form.

The manifest shipped with Lungbox, the user's own, where `train` registers its results, and those of
bundles are read as one. A name is in one of them only.
"""

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import tomli_w
from filelock import FileLock
from pydantic import ValidationError

from lungbox.common.files import atomic_write
from lungbox.common.paths import bundle_folders, data_folder, shipped_checkpoints
from lungbox.weights.entries import NAMED, Ensemble, Int8Entry, Manifest, Precisions, Weights
from lungbox.weights.entry import ManifestError

NAME = "manifest.toml"
_File = TypeVar("_File", Weights, Int8Entry)
_NAMES_ARE = "a name is letters, digits, '-', '_' and '.', and does not begin with '.'"
_IS_SHIPPED = "is a name of Lungbox's own"


def load_manifest() -> Manifest:
    """The shipped manifest, the user's own and those of bundles, as one.

    `file:` sources are made absolute. The user's own entries take precedence over a bundle's.

    Raises:
        ManifestError: one of them is invalid, uses a name of a shipped entry, or has an ensemble
            with an unregistered member; or a bundle is missing.
    """
    shipped = read_manifest(shipped_path())
    merged = Manifest(weights=dict(shipped.weights), ensembles=dict(shipped.ensembles))
    for path in (own_path(), *_bundled()):
        other = read_manifest(path)
        taken = (shipped.weights.keys() & other.weights) | (
            shipped.ensembles.keys() & other.ensembles
        )
        if taken:
            raise ManifestError(f"{path}: {min(taken)} {_IS_SHIPPED}; rename that entry")
        merged = _merge(other, merged)
    for name, ensemble in merged.ensembles.items():
        for member in ensemble.members:
            if member not in merged.weights:
                raise ManifestError(
                    f"the ensemble {name} has a member {member}, which is not registered; register "
                    f"it: python -m lungbox weights add {member} FILE --architecture NETWORK, or "
                    f"remove the ensemble: python -m lungbox weights remove {name}"
                )
        _check_kinds(name, [merged.weights[member] for member in ensemble.members], ensemble)
    # Checks of the user's own take precedence over shipped ones.
    return _merge(Manifest(precisions=shipped.precisions), merged)


def _check_kinds(name: str, members: list[Weights], ensemble: Ensemble) -> None:
    """Check that an ensemble's networks predict the same classes, and suit its box rule."""
    boxes = {member.class_names for member in members if member.kind != "classification"}
    labels = {member.class_names for member in members if member.kind == "classification"}
    for names in (boxes, labels):
        if len(names) > 1:
            first, second = (", ".join(one) for one in sorted(names)[:2])
            raise ManifestError(
                f"the ensemble {name} has members of other classes: {first}, and {second}; "
                "members predict the same classes in the same order"
            )
    masks = any(member.kind == "segmentation" for member in members)
    if ensemble.compatibility == "reference" and not masks:
        raise ManifestError(
            f"the ensemble {name} has no segmentation network, which "
            "compatibility = reference needs"
        )


def _merge(first: Manifest, second: Manifest) -> Manifest:
    """Both; the second takes precedence."""
    return Manifest(
        weights=first.weights | second.weights,
        ensembles=first.ensembles | second.ensembles,
        precisions=first.precisions | second.precisions,
    )


def read_manifest(path: Path) -> Manifest:
    """Read one manifest file, its `file:` sources made absolute; an empty one where there is none.

    Raises:
        ManifestError: it is not TOML, or an entry is invalid.
    """
    manifest = read_as_written(path)
    weights = {name: _absolute(entry, path.parent) for name, entry in manifest.weights.items()}
    precisions = {
        key: entry.model_copy(update={"int8": entry.int8 and _absolute(entry.int8, path.parent)})
        for key, entry in manifest.precisions.items()
    }
    return manifest.model_copy(update={"weights": weights, "precisions": precisions})


def read_as_written(path: Path) -> Manifest:
    """As `read_manifest`, but `file:` sources stay relative."""
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Manifest()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not a TOML file ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = _NAMES_ARE if "[key]" in where else first["msg"]
        raise ManifestError(f"{path}: {where.removesuffix('.[key]')}: {reason}") from error


def _absolute(file: _File, folder: Path) -> _File:
    sources = tuple(
        f"file:{(folder / source.removeprefix('file:')).resolve()}"
        if source.startswith("file:")
        else source
        for source in file.sources
    )
    return file.model_copy(update={"sources": sources})


def check_name(name: str) -> None:
    """Check that the user may register an entry under this name.

    Raises:
        ManifestError: it is not a valid name, or that of a shipped entry.
    """
    if not re.fullmatch(NAMED, name) or name.endswith("\n"):
        raise ManifestError(f"{name!r} cannot be the name of an entry: {_NAMES_ARE}")
    shipped = read_manifest(shipped_path())
    if name in shipped.weights or name in shipped.ensembles:
        raise ManifestError(f"{name} {_IS_SHIPPED}; choose another")


def register(name: str, weights: Weights, ensemble: Ensemble) -> None:
    """Register a weight file and an ensemble of the same name in the user's own manifest.

    Raises:
        ManifestError: the name is invalid, or that of a shipped entry.
    """
    check_name(name)
    with edit_own_manifest() as own:
        own.weights[name], own.ensembles[name] = weights, ensemble


def register_ensemble(name: str, ensemble: Ensemble) -> None:
    """Register an ensemble of known weights in the user's own manifest, or replace it there.

    Raises:
        ManifestError: the name is invalid, or that of a shipped entry.
    """
    check_name(name)
    with edit_own_manifest() as own:
        own.ensembles[name] = ensemble


def register_precisions(key: str, precisions: Precisions) -> None:
    """Register checks of an ensemble, shipped or not, in the user's own manifest, or replace them
    there."""
    with edit_own_manifest() as own:
        own.precisions[key] = precisions


@contextmanager
def edit_own_manifest() -> Iterator[Manifest]:
    """The user's own manifest, locked, to be changed in its tables; written at the end."""
    with locked(own_path()):
        own = read_manifest(own_path())
        before = own.model_copy(deep=True)
        yield own
        if own != before:
            write_manifest(own)


def write_manifest(manifest: Manifest, path: Path | None = None) -> None:
    """Write a manifest file; the user's own by default."""
    with atomic_write(path or own_path(), "wb") as file:
        tomli_w.dump(manifest.model_dump(mode="json", exclude_defaults=True), file)


def locked(path: Path) -> FileLock:
    """The lock of a file that several processes read, change and write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"))


def shipped_path() -> Path:
    """The manifest shipped with Lungbox."""
    return shipped_checkpoints() / NAME


def own_path() -> Path:
    """The user's own manifest."""
    return data_folder() / NAME


def _bundled() -> list[Path]:
    """The manifests of bundles."""
    for folder in bundle_folders():
        if not folder.is_dir():
            raise ManifestError(f"LUNGBOX_BUNDLE names {folder}, and there is no such folder")
    return [folder / NAME for folder in bundle_folders()]
