"""The manifest: every known weight file, and the ensembles they make.

Two are read as one: the manifest that comes with Lungbox, and the user's own, which `train`
enters its results into. A name stands in one of them only.
"""

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import Field, ValidationError, model_validator

from lungbox.boxes import OperatingPoint
from lungbox.constants import REFERENCE_MIN_BOX_AREA, REFERENCE_SHRINK, RSNA_SIZE
from lungbox.errors import LungboxError, hint
from lungbox.files import replacing
from lungbox.paths import bundle_folders, data_folder, shipped_checkpoints
from lungbox.radiograph.prepare import Preparation
from lungbox.weights.content import Format
from lungbox.weights.entries import Entry, Precisions, Quantised, Source
from lungbox.weights.locks import locked

NAME = "manifest.toml"
# Names become names of files and folders.
NAMED = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"
_Name = Annotated[str, Field(pattern=NAMED)]
DEFAULT = "default"
_NAMES_ARE = "a name is letters, digits, '-', '_' and '.', and does not begin with '.'"


class ManifestError(LungboxError):
    """The manifest is wrong, or does not know a name; the message says which and what to do."""


class Weights(Entry):
    """One weight file.

    Attributes:
        architecture: the registered network it belongs to.
        image_size: side of the square the network was trained on, in pixels.
        sha256: of the file, in hexadecimal; empty where it is not known, and then pinned when
            the file first comes.
        bytes: its size; 0 where it is not known.
        format: `safetensors`, or `keras2` for a published `.h5` file.
        sources: where to get it, in order of preference. `file:NAME` is beside the manifest.
        recipe: the training recipe, and what is set on top of it.
        trained_on: data and folds it has seen, in words.
        folds: those folds, by number; what else is in the data was never trained on. None where
            it is not known.
        selected_on: the fold whose score chose among the run's epochs, where one did.
        licence: the terms it may be used under.
    """

    architecture: str
    image_size: int = Field(gt=0, multiple_of=32)
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    bytes: int = Field(0, ge=0)
    format: Format = "safetensors"
    sources: tuple[Source, ...] = ()
    recipe: str = ""
    trained_on: str = ""
    folds: tuple[int, ...] | None = None
    selected_on: int | None = None
    licence: str = ""


class Ensemble(Entry):
    """Weight files whose masks are averaged, and how the average becomes boxes.

    Attributes:
        members: names of weight files.
        weights: their shares of the average, in that order; equal where empty.
        preparation: how a radiograph becomes its members' input, see `radiograph.prepare`.
        flip: whether each radiograph is also read mirrored and the two answers averaged, at
            twice the cost.
        rule, threshold, min_area, shrink, gate, compatibility, split, extent, confidence,
            one_a_lung: see `boxes.OperatingPoint`.
        note: where the operating point comes from, or how to train what is not published.
    """

    members: tuple[str, ...] = Field(min_length=1)
    weights: tuple[Annotated[float, Field(gt=0)], ...] = ()
    preparation: Preparation = "equalised"
    rule: Literal["argmax", "threshold"] = "argmax"
    threshold: float = Field(0.5, ge=0, le=1)
    min_area: float = Field(0.005, ge=0, lt=1)
    shrink: float = Field(0.05, ge=0, lt=0.5)
    gate: float = Field(0.0, ge=0, le=1)
    compatibility: Literal["lungbox", "reference"] = "lungbox"
    split: bool = False
    extent: Literal["all", "mass"] = "all"
    confidence: Literal["mean", "peak", "box"] = "mean"
    one_a_lung: bool = False
    flip: bool = False
    note: str = ""

    @model_validator(mode="after")
    def _one_weight_a_member(self) -> "Ensemble":
        if self.weights and len(self.weights) != len(self.members):
            raise ValueError(f"{len(self.weights)} weights for {len(self.members)} members")
        return self

    @classmethod
    def alone(
        cls, member: str, *, reference: bool, preparation: Preparation, note: str = ""
    ) -> "Ensemble":
        """The ensemble of one weight file.

        Args:
            member: its name.
            reference: whether its network is the reference system's, whose box rule it gets then.
            preparation: see `radiograph.prepare`.
            note: see `Ensemble`.
        """
        if not reference:
            return cls(members=(member,), preparation=preparation, note=note)
        return cls(
            members=(member,),
            preparation=preparation,
            compatibility="reference",
            min_area=REFERENCE_MIN_BOX_AREA / RSNA_SIZE**2,
            shrink=REFERENCE_SHRINK,
            note=note,
        )

    @property
    def shares(self) -> tuple[float, ...]:
        """The members' shares of the average; they sum to 1."""
        weights = self.weights or (1.0,) * len(self.members)
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def point(self) -> OperatingPoint:
        """How its mask becomes boxes."""
        return OperatingPoint(
            **{item.name: getattr(self, item.name) for item in fields(OperatingPoint)}
        )


# What can be fetched.
File = Weights | Quantised


class Manifest(Entry):
    """What a manifest file holds.

    Attributes:
        weights: weight files by name.
        ensembles: by name.
        precisions: what is known of ensembles in other precisions, by what they compute, see
            `weights.computation`. The user's own go before Lungbox's.
    """

    weights: dict[_Name, Weights] = Field({})
    ensembles: dict[_Name, Ensemble] = Field({})
    precisions: dict[_Name, Precisions] = Field({})

    def file(self, name: str) -> Weights:
        """The weight file called `name`.

        Raises:
            ManifestError: there is none; the nearest is named.
        """
        if name not in self.weights:
            raise ManifestError(f"no weights are called {name}; {hint(name, self.weights)}")
        return self.weights[name]

    def seen_by(self, name: str) -> frozenset[int] | None:
        """The folds that the weight file called `name` was trained on or chosen by; None where
        nobody has said so of it, nor of the same file under another name."""
        weights = self.file(name)
        twins = [other for other in self.weights.values() if other.sha256 == weights.sha256 != ""]
        known = [other for other in (weights, *twins) if other.folds is not None]
        chosen = {other.selected_on for other in known} - {None}
        folds = {fold for other in known for fold in other.folds or ()}
        return frozenset(folds | {fold for fold in chosen if fold is not None}) if known else None

    def ensemble(self, name: str) -> Ensemble:
        """The ensemble called `name`.

        Raises:
            ManifestError: there is none; the nearest is named.
        """
        if name not in self.ensembles:
            raise ManifestError(f"no ensemble is called {name}; {hint(name, self.ensembles)}")
        return self.ensembles[name]


def load_manifest() -> Manifest:
    """The shipped manifest, the user's own and those of bundles, as one.

    `file:` sources are made absolute. What stands in the user's own goes before a bundle's.

    Raises:
        ManifestError: one of them is wrong, takes a name of Lungbox's own, or has an ensemble
            whose members are nowhere entered; or a bundle is not there.
    """
    shipped = read_manifest(shipped_path())
    weights, ensembles = dict(shipped.weights), dict(shipped.ensembles)
    precisions: dict[str, Precisions] = {}
    for path in (own_path(), *_bundled()):
        other = read_manifest(path)
        taken = (set(shipped.weights) & set(other.weights)) | (
            set(shipped.ensembles) & set(other.ensembles)
        )
        if taken:
            raise ManifestError(
                f"{path}: {min(taken)} is a name of Lungbox's own; rename that entry"
            )
        weights = other.weights | weights
        ensembles = other.ensembles | ensembles
        precisions = other.precisions | precisions
    for name, ensemble in ensembles.items():
        for member in ensemble.members:
            if member not in weights:
                raise ManifestError(
                    f"the ensemble {name} has a member {member}, which is not entered; enter it: "
                    f"python -m lungbox weights add {member} FILE --architecture NETWORK, or "
                    f"remove the ensemble: python -m lungbox weights remove {name}"
                )
    precisions = shipped.precisions | precisions
    return Manifest(weights=weights, ensembles=ensembles, precisions=precisions)


def read_manifest(path: Path) -> Manifest:
    """Read one manifest file, its `file:` sources made absolute; an empty one where there is none.

    Raises:
        ManifestError: it is not TOML, or an entry is wrong.
    """
    manifest = read_as_written(path)
    placed = {
        name: entry.model_copy(update={"sources": _placed(entry.sources, path.parent)})
        for name, entry in manifest.weights.items()
    }
    known = {name: _placed_int8(entry, path.parent) for name, entry in manifest.precisions.items()}
    return manifest.model_copy(update={"weights": placed, "precisions": known})


def read_as_written(path: Path) -> Manifest:
    """As `read_manifest`, but with sources as they stand in the file."""
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Manifest()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not a TOML file ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        fault = _NAMES_ARE if "[key]" in where else first["msg"]
        raise ManifestError(f"{path}: {where.removesuffix('.[key]')}: {fault}") from error


def check_name(name: str) -> None:
    """Check that an entry of the user's own can have this name.

    Raises:
        ManifestError: it cannot be a name, or is one of Lungbox's own.
    """
    if not re.fullmatch(NAMED, name) or name.endswith("\n"):
        raise ManifestError(f"{name!r} cannot be the name of an entry: {_NAMES_ARE}")
    shipped = read_manifest(shipped_path())
    if name in shipped.weights or name in shipped.ensembles:
        raise ManifestError(f"{name} is a name of Lungbox's own; choose another")


def enter(name: str, weights: Weights, ensemble: Ensemble) -> None:
    """Enter a weight file, and an ensemble of the same name, into the user's own manifest.

    Raises:
        ManifestError: the name is one of Lungbox's own, or cannot be one.
    """
    _add(name, {name: weights}, ensemble)


def enter_ensemble(name: str, ensemble: Ensemble) -> None:
    """Enter an ensemble of known weights into the user's own manifest, or replace it there.

    Raises:
        ManifestError: the name is one of Lungbox's own, or cannot be one.
    """
    _add(name, {}, ensemble)


def enter_precisions(key: str, precisions: Precisions) -> None:
    """Enter what is known of an ensemble, one of Lungbox's own or not, into the user's own
    manifest, or replace it there."""
    with locked(own_path()):
        own = read_manifest(own_path())
        known = own.precisions | {key: precisions}
        write_manifest(own.model_copy(update={"precisions": known}))


def forget_precisions(ensemble: str) -> list[Precisions]:
    """Remove from the user's own manifest what is known of an ensemble; gives what that was."""
    with locked(own_path()):
        own = read_manifest(own_path())
        going = {key: one for key, one in own.precisions.items() if one.ensemble == ensemble}
        if going:
            staying = {key: one for key, one in own.precisions.items() if key not in going}
            write_manifest(own.model_copy(update={"precisions": staying}))
    return list(going.values())


def _add(name: str, weights: dict[str, Weights], ensemble: Ensemble) -> None:
    check_name(name)
    with locked(own_path()):
        own = read_manifest(own_path())
        entered = {
            "weights": own.weights | weights,
            "ensembles": own.ensembles | {name: ensemble},
        }
        write_manifest(own.model_copy(update=entered))


def write_manifest(manifest: Manifest, path: Path | None = None) -> None:
    """Write a manifest file; the user's own by default."""
    with replacing(path or own_path(), "wb") as file:
        tomli_w.dump(manifest.model_dump(mode="json", exclude_defaults=True), file)


def shipped_path() -> Path:
    """The manifest that comes with Lungbox."""
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


def _placed_int8(entry: Precisions, folder: Path) -> Precisions:
    if entry.int8 is None:
        return entry
    int8 = entry.int8.model_copy(update={"sources": _placed(entry.int8.sources, folder)})
    return entry.model_copy(update={"int8": int8})


def _placed(sources: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """`file:` sources are beside their manifest."""
    return tuple(
        f"file:{(folder / source.removeprefix('file:')).resolve()}"
        if source.startswith("file:")
        else source
        for source in sources
    )
