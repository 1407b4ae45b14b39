"""What can be done with weight files as a whole: list, verify, add, remove, convert, bundle."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lungbox.errors import LungboxError
from lungbox.paths import data_folder, requirements_file
from lungbox.weights import pins
from lungbox.weights.content import ENDINGS, Format, fault_of_content
from lungbox.weights.fetch import Watch, cached, fault, fetch, local, sha256
from lungbox.weights.files import WeightsError, save_weights
from lungbox.weights.keras2 import load_keras2
from lungbox.weights.manifest import (
    NAME,
    Ensemble,
    Manifest,
    Weights,
    enter,
    load_manifest,
    own_path,
    read_manifest,
    write_manifest,
)


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
    weights: Weights
    path: Path | None
    state: str


def statuses(names: list[str] | None = None) -> list[Status]:
    """Where each weight file stands; nothing is downloaded, every file that is here is checked.

    Raises:
        ManifestError: a name is not known.
    """
    manifest = load_manifest()
    found = []
    for name in names or manifest.weights:
        weights = manifest.file(name)
        path = local(name, weights)
        if path is None:
            state = "not fetched" if weights.sources else "not published"
        else:
            state = fault(path, weights, pins.expected(name, weights)) or "here"
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
    name: str, file: Path, architecture: str | None = None, image_size: int | None = None
) -> Path:
    """Enter a weight file that is on this machine.

    Where `name` is known (its file was fetched by hand), the file is checked and kept in the
    cache; where it is new, it is copied into the user's own folder and entered with an ensemble
    of the same name.

    Args:
        name: of the entry.
        file: `.safetensors`, or `.h5` of Keras 2.
        architecture: of a new entry.
        image_size: of a new entry, in pixels; the network's own where None.

    Returns:
        Where it is kept.

    Raises:
        WeightsError: the file is not what it should be.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: there is no such weight file")
    manifest = load_manifest()
    if name in manifest.weights:
        return _add_known(name, manifest.weights[name], file)
    if architecture is None:
        raise WeightsError(f"{name} is new: say which network it is, with --architecture")
    form: Format = "keras2" if file.suffix in (".h5", ".hdf5") else "safetensors"
    if reason := fault_of_content(file, form):
        raise WeightsError(f"{file}: {reason}")
    kept = data_folder() / "weights" / f"{name}{ENDINGS[form]}"
    return _enter_copy(name, file, kept, _entry(architecture, image_size, form))


def convert(file: Path, architecture: str, name: str | None = None) -> str:
    """Convert a Keras 2 weight file to safetensors and enter it.

    Args:
        file: `.h5`.
        architecture: the network it belongs to.
        name: of the new entry; the file's own where None.

    Returns:
        The entry's name.

    Raises:
        WeightsError: the file does not fit the network.
    """
    from lungbox import architecture as networks

    name = name or file.stem
    network = networks.build(architecture)
    load_keras2(network, file)
    kept = data_folder() / "weights" / f"{name}.safetensors"
    save_weights(network, kept)
    _enter_copy(name, kept, kept, _entry(architecture, None, "safetensors"))
    return name


def remove(name: str) -> list[Path]:
    """Remove an entry of the user's own, or the downloaded file of one of Lungbox's.

    Returns:
        The files removed.

    Raises:
        ManifestError: the name is not known.
        WeightsError: another ensemble needs it.
    """
    own = read_manifest(own_path())
    weights = load_manifest().file(name)
    needing = [
        other
        for other, ensemble in own.ensembles.items()
        if name in ensemble.members and other != name
    ]
    if needing:
        raise WeightsError(f"the ensemble {needing[0]} needs {name}; remove that first")
    if name in own.weights:
        write_manifest(
            Manifest(
                weights={key: value for key, value in own.weights.items() if key != name},
                ensembles={key: value for key, value in own.ensembles.items() if key != name},
            )
        )
    ours = data_folder() / "weights"
    candidates = [cached(name, weights)]
    candidates += [
        path
        for source in weights.sources
        if source.startswith("file:")
        and (path := Path(source.removeprefix("file:"))).parent == ours
    ]
    removed = [path for path in candidates if path.is_file()]
    for path in removed:
        path.unlink()
    return removed


def bundle(
    folder: Path,
    names: list[str],
    wheels: bool,
    watch: Watch = lambda _: lambda *_: None,
) -> list[Path]:
    """Make a folder with everything a machine without internet needs to run ensembles.

    There, `LUNGBOX_BUNDLE=FOLDER` makes its weights and entries known, and `pip install --no-index
    --find-links FOLDER/wheels -r FOLDER/requirements.txt` installs the wheels.

    Args:
        folder: is made.
        names: ensembles or weight files.
        wheels: also download every pinned requirement for this Python and platform.
        watch: see `fetch`.

    Returns:
        The files of weights in it.

    Raises:
        WeightsError: weights cannot be had.
        LungboxError: pip cannot download the wheels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest, own = load_manifest(), read_manifest(own_path())
    files = members_of(names)
    copied, pinned = [], {}
    for name in files:
        weights = manifest.weights[name]
        path = fetch(name, weights, watch)
        copied.append(folder / cached(name, weights).name)
        shutil.copyfile(path, copied[-1])
        if not weights.sha256 and (pin := pins.expected(name, weights)):
            pinned[name] = pin
    pins.write(folder / pins.NAME, pinned)
    ours = {name: own.weights[name] for name in files if name in own.weights}
    ensembles = {name: own.ensembles[name] for name in names if name in own.ensembles}
    write_manifest(Manifest(weights=ours, ensembles=ensembles), folder / NAME)
    shutil.copyfile(requirements_file(), folder / "requirements.txt")
    if wheels:
        _download_wheels(folder)
    return copied


def _add_known(name: str, weights: Weights, file: Path) -> Path:
    expected = pins.expected(name, weights)
    if reason := fault(file, weights, expected):
        raise WeightsError(f"{file}: {reason}")
    if expected is None:
        pins.add(name, pins.Pin(sha256(file), file.stat().st_size, str(file)))
    target = cached(name, weights)
    _copy(file, target)
    return target


def _enter_copy(name: str, file: Path, kept: Path, entry: Weights) -> Path:
    if file != kept:
        _copy(file, kept)
    facts = {"sha256": sha256(kept), "bytes": kept.stat().st_size, "sources": (f"file:{kept}",)}
    enter(name, entry.model_copy(update=facts), Ensemble(members=(name,)))
    return kept


def _entry(architecture: str, image_size: int | None, form: Format) -> Weights:
    from lungbox import architecture as networks

    network = networks.describe(architecture)
    size = image_size or network.image_size
    return Weights.model_validate(
        {"architecture": architecture, "image_size": size, "format": form}
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.copy")
    shutil.copyfile(source, partial)
    partial.replace(target)


def _download_wheels(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--only-binary", ":all:"]
    command += ["--requirement", str(folder / "requirements.txt")]
    done = subprocess.run([*command, "--dest", str(folder / "wheels")], check=False)
    if done.returncode:
        raise LungboxError(f"pip could not download the wheels into {folder / 'wheels'}")
