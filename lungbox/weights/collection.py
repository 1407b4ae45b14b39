"""What can be done with weight files as a whole: list, verify, add, remove, convert."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from lungbox.paths import data_folder
from lungbox.weights import pins
from lungbox.weights.computation import int8_files
from lungbox.weights.content import ENDINGS, Format
from lungbox.weights.entries import Quantised
from lungbox.weights.fetch import cached, fault, local, sha256
from lungbox.weights.files import WeightsError, check_weights, save_weights
from lungbox.weights.keras2 import check_keras2, load_keras2
from lungbox.weights.locks import locked
from lungbox.weights.manifest import (
    Ensemble,
    File,
    Manifest,
    Weights,
    check_name,
    enter,
    forget_precisions,
    load_manifest,
    own_path,
    read_manifest,
    shipped_path,
    write_manifest,
)
from lungbox.weights.structure import fault_of_structure

# Beside the manifest: INT8 models, which only `quantise` makes.
INT8_FOLDER = "int8"


@dataclass(frozen=True)
class Status:
    """Where a weight file stands.

    Attributes:
        name: of the entry.
        weights: the entry.
        path: where it is on this machine; None where it is not.
        state: `here`, `not fetched`, `not published`, or what is wrong with it.
    """

    name: str
    weights: File
    path: Path | None
    state: str


def statuses(names: list[str] | None = None) -> list[Status]:
    """Where each weight file stands; nothing is downloaded, every file that is here is checked.

    Args:
        names: of ensembles and weight files; all where None.

    Raises:
        ManifestError: a name is not known.
    """
    manifest = load_manifest()
    found = []
    members = members_of(names) if names else manifest.weights
    files: dict[str, File] = {name: manifest.file(name) for name in members}
    files |= int8_files(manifest, names)
    for name, weights in files.items():
        path = local(name, weights)
        if path is None:
            state = "not fetched" if weights.sources else "not published"
        else:
            state = fault(path, name, weights, pins.expected(name, weights)) or "here"
        found.append(Status(name, weights, path, state))
    return found


def members_of(names: list[str]) -> list[str]:
    """The weight files of ensembles and weight files given by name, each once.

    Raises:
        ManifestError: a name is neither.
    """
    manifest = load_manifest()
    files: dict[str, None] = {}
    for name in names:
        if name in manifest.ensembles:
            files |= dict.fromkeys(manifest.ensembles[name].members)
        else:
            manifest.file(name)
            files[name] = None
    return list(files)


def add(
    name: str,
    file: Path,
    architecture: str | None = None,
    image_size: int | None = None,
    replace: bool = False,
    folds: tuple[int, ...] | None = None,
) -> Path:
    """Enter a weight file that is on this machine.

    Where `name` is known (its file was fetched by hand), the file is checked and kept in the
    cache; where it is new, it is copied into the user's own folder and entered with an ensemble
    of the same name. Nothing is written before all is checked.

    Args:
        name: of the entry.
        file: `.safetensors`, or `.h5` of Keras 2.
        architecture: of a new entry.
        image_size: of a new entry, in pixels; the network's own where None.
        replace: whether the file takes the place of one entered or pinned earlier.
        folds: that a new entry was trained on; None where it is not known, and then it cannot
            be evaluated.

    Returns:
        Where it is kept.

    Raises:
        ManifestError: the name cannot be taken.
        WeightsError: the file is not what it should be.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: there is no such weight file")
    manifest, own = load_manifest(), read_manifest(own_path())
    known = manifest.weights.get(name)
    if known and architecture not in (None, known.architecture):
        raise WeightsError(f"{name} is entered already, of {known.architecture}; choose a new name")
    if known and not (replace and name in own.weights):
        return _add_known(name, known, file, replace)
    _check_free(name, replace)
    architecture = architecture or (known.architecture if known else None)
    if architecture is None:
        raise WeightsError(f"{name} is new: say which network it is, with --architecture")
    form: Format = "keras2" if file.suffix in (".h5", ".hdf5") else "safetensors"
    if reason := fault_of_structure(file, form):
        raise WeightsError(f"{file}: {reason}")
    if image_size is None and known:
        image_size = known.image_size
    entry = _entry(architecture, image_size, form).model_copy(update={"folds": folds})
    _check_fits(file, entry)
    return _enter_copy(name, file, data_folder() / "weights" / f"{name}{ENDINGS[form]}", entry)


def convert(file: Path, architecture: str, name: str | None = None, replace: bool = False) -> str:
    """Convert a Keras 2 weight file to safetensors and enter it.

    Args:
        file: `.h5`.
        architecture: the network it belongs to.
        name: of the new entry; the file's own where None.
        replace: whether it takes the place of an entry of the user's own.

    Returns:
        The entry's name.

    Raises:
        ManifestError: the name cannot be taken.
        WeightsError: the file does not fit the network.
    """
    from lungbox import architecture as networks

    name = name or file.stem
    if not file.is_file():
        raise WeightsError(f"{file}: there is no such weight file")
    _check_free(name, replace)
    network = networks.build(architecture)
    load_keras2(network, file)
    kept = data_folder() / "weights" / f"{name}.safetensors"
    save_weights(network, kept)
    _enter_copy(name, kept, kept, _entry(architecture, None, "safetensors"))
    return name


@dataclass(frozen=True)
class Removal:
    """What `remove` did.

    Attributes:
        entry: whether an entry of the user's own went.
        pin: whether a pinned hash was forgotten.
        files: those removed.
        kept: those that stay, for they are not Lungbox's: where `train` left them, for instance.
        whose: where the entry is from, if it is not the user's own.
    """

    entry: bool
    pin: bool
    files: tuple[Path, ...] = ()
    kept: tuple[Path, ...] = ()
    whose: str = ""


def remove(name: str) -> Removal:
    """Remove a weight file or ensemble of the user's own, or what was fetched or pinned of one of
    Lungbox's.

    Raises:
        ManifestError: the name is not known.
        WeightsError: another ensemble needs it.
    """
    own = read_manifest(own_path())
    if name in own.weights or name in own.ensembles:
        weights = own.weights.get(name)
        _remove_entry(name)  # first: it may refuse
        entry = True
    else:
        manifest, entry = load_manifest(), False
        only_ensemble = name in manifest.ensembles and name not in manifest.weights
        weights = None if only_ensemble else manifest.file(name)
    int8 = tuple(_remove_int8(name))
    whose = _whose(name)
    if weights is None:
        return Removal(entry or bool(int8), pin=False, files=int8, whose=whose)
    ours = (data_folder() / "weights").resolve()
    named = [Path(s.removeprefix("file:")) for s in weights.sources if s.startswith("file:")]
    going = {cached(name, weights), *(path for path in named if path.parent == ours)}
    files = tuple(path for path in sorted(going) if path.is_file())
    for path in files:
        path.unlink()
    kept = tuple(path for path in named if entry and path.is_file())
    return Removal(entry or bool(int8), pins.remove(name), (*files, *int8), kept, whose)


def _remove_int8(ensemble: str) -> list[Path]:
    """Forget what `quantise` found out about an ensemble; the files that went."""
    return [
        path
        for known in forget_precisions(ensemble)
        for path in (remove_files(known.int8) if known.int8 else ())
    ]


def remove_files(int8: Quantised) -> list[Path]:
    """Remove the files of a network that `quantise` made; those that went."""
    ours = (data_folder() / INT8_FOLDER).resolve()
    paths = [Path(source.removeprefix("file:")) for source in int8.sources]
    going = [path for path in paths if path.parent == ours and path.is_file()]
    for path in going:
        path.unlink()
    return going


def _whose(name: str) -> str:
    """Where an entry that is not the user's own is from."""
    shipped = read_manifest(shipped_path())
    if name in shipped.weights or name in shipped.ensembles:
        return "ships with Lungbox"
    return "is of a bundle; take that out of LUNGBOX_BUNDLE"


def _remove_entry(name: str) -> None:
    with locked(own_path()):
        own = read_manifest(own_path())
        needing = [
            other
            for other, ensemble in own.ensembles.items()
            if name in ensemble.members and other != name
        ]
        if name in own.weights and needing:
            raise WeightsError(
                f"the ensemble {needing[0]} needs {name}; remove that first: "
                f"python -m lungbox weights remove {needing[0]}"
            )
        write_manifest(
            Manifest(
                weights={key: value for key, value in own.weights.items() if key != name},
                ensembles={key: value for key, value in own.ensembles.items() if key != name},
                precisions=own.precisions,
            )
        )


def _check_free(name: str, replace: bool) -> None:
    """Check that an entry of the user's own may be written under this name."""
    check_name(name)
    own = read_manifest(own_path())
    if name in own.weights:
        if not replace:
            raise WeightsError(f"{name} is entered already; replace it with --replace")
    elif name in own.ensembles:
        raise WeightsError(f"{name} is an ensemble of your own; choose another name")


def _add_known(name: str, weights: Weights, file: Path, replace: bool) -> Path:
    expected = pins.expected(name, weights)
    if replace and not weights.sha256:
        expected = None
    if reason := fault(file, name, weights, expected):
        own = name in read_manifest(own_path()).weights
        raise WeightsError(f"{file}: {reason}" + ("; replace it with --replace" if own else ""))
    target = cached(name, weights)
    if expected is None:
        _check_fits(file, weights)
        pins.add(name, pins.Pin(sha256(file), file.stat().st_size, f"file:{file.resolve()}"))
    with locked(target):
        _copy(file, target)
    return target


def _check_fits(file: Path, entry: Weights) -> None:
    """Check that the file's weights are those of the entry's network."""
    from lungbox import architecture as networks

    network = networks.build(entry.architecture, entry.image_size)
    (check_keras2 if entry.format == "keras2" else check_weights)(network, file)


def _enter_copy(name: str, file: Path, kept: Path, entry: Weights) -> Path:
    if file.resolve() != kept.resolve():
        _copy(file, kept)
    facts = {"sha256": sha256(kept), "bytes": kept.stat().st_size, "sources": (f"file:{kept}",)}
    from lungbox import architecture as networks

    # An ensemble of this name stays as it is: its file alone is replaced.
    ensemble = read_manifest(own_path()).ensembles.get(name)
    if ensemble is None:
        network = networks.describe(entry.architecture)
        ensemble = Ensemble.alone(
            name, reference=network.reference, preparation=network.preparation
        )
    enter(name, entry.model_copy(update=facts), ensemble)
    return kept


def _entry(architecture: str, image_size: int | None, form: Format) -> Weights:
    from lungbox import architecture as networks

    network = networks.describe(architecture)
    size = network.image_size if image_size is None else image_size
    if size < network.multiple or size % network.multiple:
        raise WeightsError(
            f"--image-size {size}: the side is a multiple of {network.multiple} pixels, and at "
            f"least {network.multiple}"
        )
    return Weights(architecture=architecture, image_size=size, format=form)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.copy")
    shutil.copyfile(source, partial)
    partial.replace(target)
