"""Managing weight files: status, add, remove, convert."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lungbox.common.paths import data_folder
from lungbox.weights.entries import Ensemble, File, Int8Entry, Manifest, Weights
from lungbox.weights.formats import SUFFIXES, Format, content_error
from lungbox.weights.formats.keras2 import load_keras2
from lungbox.weights.formats.safetensors import WeightsError, load_weights, save_weights
from lungbox.weights.manifest import (
    check_name,
    edit_own_manifest,
    load_manifest,
    own_path,
    read_manifest,
    register,
    shipped_path,
)
from lungbox.weights.store import (
    Pin,
    cached,
    copy,
    edit_pins,
    expected_pin,
    file_error,
    int8_files,
    local,
    local_sources,
    sha256,
)

# In the user's data folder: INT8 models that `quantize` made.
INT8_FOLDER = "int8"


@dataclass(frozen=True)
class Status:
    """Status of a weight file.

    Attributes:
        name: of the entry.
        weights: the entry.
        path: where it is on this machine; None where it is not.
        state: `here`, `not downloaded`, `not published`, or what is wrong with it.
    """

    name: str
    weights: File
    path: Path | None
    state: str


def statuses(names: list[str] | None = None) -> list[Status]:
    """The status of weight files; each file on this machine is checked, nothing is downloaded.

    Args:
        names: of ensembles and weight files; all where None.

    Raises:
        ManifestError: a name is unknown.
    """
    found = []
    for name, file in files_of(names).items():
        path = local(name, file)
        if path is None:
            state = "not downloaded" if file.sources else "not published"
        else:
            state = file_error(path, name, file, expected_pin(name, file)) or "here"
        found.append(Status(name, file, path, state))
    return found


def files_of(names: list[str] | None = None) -> dict[str, File]:
    """The weight files and INT8 models of ensembles and weight files, or all, by name.

    Raises:
        ManifestError: a name is unknown.
    """
    manifest = load_manifest()
    members = members_of(names) if names else manifest.weights
    return {name: manifest.file(name) for name in members} | int8_files(manifest, names or None)


def members_of(names: list[str]) -> list[str]:
    """The weight files of ensembles and weight files, each once.

    Raises:
        ManifestError: a name is unknown.
    """
    manifest = load_manifest()
    members: dict[str, None] = {}
    for name in names:
        if name in manifest.ensembles:
            members |= dict.fromkeys(manifest.ensembles[name].members)
        else:
            manifest.file(name)
            members[name] = None
    return list(members)


def add(
    name: str,
    file: Path,
    architecture: str | None = None,
    image_size: int | None = None,
    replace: bool = False,
    folds: tuple[int, ...] | None = None,
    class_names: tuple[str, ...] = (),
    options: Mapping[str, float] | None = None,
) -> Path:
    """Register a weight file that is on this machine.

    For a known entry, the file is checked and copied into the cache. A new one is copied into the
    user's data folder and registered with an ensemble of the same name. Nothing is written before
    all is checked.

    Args:
        name: of the entry.
        file: `.safetensors`, or `.h5` of Keras 2.
        architecture: of a new entry.
        image_size: of a new entry, in pixels; the network's default where None.
        replace: whether the file replaces one registered or pinned earlier.
        folds: that a new entry was trained on; where they are unknown (None), it cannot be
            evaluated.
        class_names: of a new entry; the network's where empty.
        options: of the network's function, of a new entry.

    Returns:
        The copy.

    Raises:
        ManifestError: the name is not available.
        WeightsError: the file is invalid.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: there is no such weight file")
    known = load_manifest().weights.get(name)
    if known and architecture not in (None, known.architecture):
        raise WeightsError(
            f"{name} is registered already, for {known.architecture}; choose another name"
        )
    if known and class_names and class_names != known.class_names:
        raise WeightsError(
            f"{name} is registered already, for {', '.join(known.class_names)}; choose another name"
        )
    if known and not (replace and name in read_manifest(own_path()).weights):
        return _add_known(name, known, file, replace)
    _check_free(name, replace)
    if known:
        architecture = known.architecture
        image_size = known.image_size if image_size is None else image_size
        class_names, options = known.class_names, options or known.options
    if architecture is None:
        raise WeightsError(f"{name} is new: name its network with --architecture")
    form: Format = "keras2" if file.suffix in (".h5", ".hdf5") else "safetensors"
    if reason := content_error(file, form):
        raise WeightsError(f"{file}: {reason}")
    entry = _new_entry(architecture, image_size, form, folds, class_names, options)
    _check_fits(file, entry)
    kept = data_folder() / "weights" / f"{name}{SUFFIXES[form]}"
    if file.resolve() != kept.resolve():
        copy(file, kept)
    _register(name, kept, entry)
    return kept


def convert(file: Path, architecture: str, name: str | None = None, replace: bool = False) -> str:
    """Convert a Keras 2 weight file to safetensors and register it.

    Args:
        file: `.h5`.
        architecture: the network it belongs to.
        name: of the new entry; the file's where None.
        replace: whether it replaces an entry of the user's own.

    Returns:
        The entry's name.

    Raises:
        ManifestError: the name is not available.
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
    _register(name, kept, _new_entry(architecture, None, "safetensors"))
    return name


def remove(name: str) -> list[str]:
    """Remove a weight file or ensemble of the user's own; or the download and pin of another.

    Returns:
        What was removed and what was not, in words.

    Raises:
        ManifestError: the name is unknown.
        WeightsError: another ensemble of the user's own needs it.
    """
    with edit_own_manifest() as own:
        entry = name in own.weights or name in own.ensembles
        if entry:
            _check_unused(name, own)
            own.ensembles.pop(name, None)
            weights = own.weights.pop(name, None)
        else:
            manifest = load_manifest()
            only_ensemble = name in manifest.ensembles and name not in manifest.weights
            weights = None if only_ensemble else manifest.file(name)
        keys = [key for key, one in own.precisions.items() if one.ensemble == name]
        int8 = [own.precisions.pop(key).int8 for key in keys]
    files = [path for one in int8 if one for path in remove_files(one)]
    done = ["entry removed"] if entry or int8 else []
    pin, kept = None, []
    if weights:
        folder = (data_folder() / "weights").resolve()
        sources = local_sources(weights)
        files += _unlink({cached(name, weights), *(p for p in sources if p.parent == folder)})
        kept = [f"{path} stays" for path in sources if entry and path.is_file()]
        with edit_pins() as pins:
            pin = pins.pop(name, None)
    if files:
        done.append(f"{len(files)} file{'s' if len(files) > 1 else ''} removed")
    if pin:
        done.append("pinned hash removed")
    return done + kept or [f"{_owner(name)}, nothing to remove"]


def _check_unused(name: str, own: Manifest) -> None:
    for other, ensemble in own.ensembles.items():
        if name in own.weights and name in ensemble.members and other != name:
            raise WeightsError(
                f"the ensemble {other} needs {name}; remove that first: "
                f"python -m lungbox weights remove {other}"
            )


def remove_files(int8: Int8Entry) -> list[Path]:
    """Remove the files of an INT8 model that `quantize` made; returns their paths."""
    folder = (data_folder() / INT8_FOLDER).resolve()
    return _unlink({path for path in local_sources(int8) if path.parent == folder})


def _unlink(paths: set[Path]) -> list[Path]:
    found = [path for path in sorted(paths) if path.is_file()]
    for path in found:
        path.unlink()
    return found


def _owner(name: str) -> str:
    shipped = read_manifest(shipped_path())
    if name in shipped.weights or name in shipped.ensembles:
        return "ships with Lungbox"
    return "is in a bundle (remove that from LUNGBOX_BUNDLE)"


def _check_free(name: str, replace: bool) -> None:
    """Check that an entry of the user's own may be written under this name."""
    check_name(name)
    own = read_manifest(own_path())
    if name in own.weights:
        if not replace:
            raise WeightsError(f"{name} is registered already; replace it with --replace")
    elif name in own.ensembles:
        raise WeightsError(f"{name} is an ensemble of your own; choose another name")


def _add_known(name: str, weights: Weights, file: Path, replace: bool) -> Path:
    pin = None if replace and not weights.sha256 else expected_pin(name, weights)
    if reason := file_error(file, name, weights, pin):
        own = name in read_manifest(own_path()).weights
        raise WeightsError(f"{file}: {reason}" + ("; replace it with --replace" if own else ""))
    if pin is None:
        _check_fits(file, weights)
        with edit_pins() as pins:
            pins[name] = Pin(sha256(file), file.stat().st_size, f"file:{file.resolve()}")
    target = cached(name, weights)
    copy(file, target)
    return target


def _check_fits(file: Path, entry: Weights) -> None:
    """Check that the file's weights are those of the entry's network."""
    from lungbox.weights.networks import build_network

    network = build_network(entry)
    (load_keras2 if entry.format == "keras2" else load_weights)(network, file)


def _register(name: str, file: Path, entry: Weights) -> None:
    """Register a file; an ensemble of this name stays as it is."""
    from lungbox import architecture as networks

    ensemble = read_manifest(own_path()).ensembles.get(name)
    if ensemble is None:
        network = networks.describe(entry.architecture)
        ensemble = Ensemble.alone(
            name, reference=network.reference, preparation=network.preparation
        )
    known = {"sha256": sha256(file), "bytes": file.stat().st_size, "sources": (f"file:{file}",)}
    register(name, entry.model_copy(update=known), ensemble)


def _new_entry(
    architecture: str,
    image_size: int | None,
    form: Format,
    folds: tuple[int, ...] | None = None,
    class_names: tuple[str, ...] = (),
    options: Mapping[str, float] | None = None,
) -> Weights:
    from lungbox import architecture as networks

    network = networks.describe(architecture)
    size = network.image_size if image_size is None else image_size
    if size < network.multiple or size % network.multiple:
        raise WeightsError(
            f"--image-size {size}: the side is a multiple of {network.multiple} pixels, and at "
            f"least {network.multiple}"
        )
    return Weights(
        architecture=architecture,
        image_size=size,
        format=form,
        folds=folds,
        kind=network.kind,
        class_names=class_names or network.class_names,
        options=dict(options or {}),
    )
