"""Where weight files are on this machine: local files, bundles and the cache of downloads, each
checked against its hash.

A hash that an entry does not give is pinned at the first download, as SSH does with a host's key:
the first file is trusted, a different one is refused afterwards.
"""

import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lungbox.common.files import atomic_write
from lungbox.common.paths import (
    bundle_folders,
    cache_folder,
    data_folder,
    shipped_recipes,
    weights_cache,
)
from lungbox.weights.entries import Ensemble, File, Int8Entry, Manifest, Weights
from lungbox.weights.fingerprints import fingerprint, fingerprints, key_of
from lungbox.weights.formats import SUFFIXES, content_error, header_error
from lungbox.weights.formats.safetensors import WeightsError
from lungbox.weights.manifest import locked

# Receives the source that is tried, and returns what receives its progress, see `download.Advance`.
Watch = Callable[[str], Callable[[int, int | None], object]]

OFFLINE = "LUNGBOX_OFFLINE"
PINS = "pins.json"
_REMOTE = ("https:", "http:", "gdrive:", "hf:", "kaggle:")
# Far more than any known network; the limit where the size is unknown.
_MAX_BYTES = 4 << 30


@dataclass(frozen=True)
class Pin:
    """The hash a file must have.

    Attributes:
        sha256: in hexadecimal.
        bytes: its size; 0 where it is unknown.
        source: where it first came from, `file:...` or a path if from this machine; empty where
            the manifest itself gives the hash.
    """

    sha256: str
    bytes: int = 0
    source: str = ""

    @property
    def local(self) -> bool:
        """Whether it was registered from a file of this machine."""
        return not self.source.startswith(_REMOTE)

    def mismatch(self, name: str) -> str:
        """The message for a file of the entry `name` that has another hash."""
        if not self.source:
            return "is not the registered file (its SHA-256 differs)"
        forget = f"python -m lungbox weights remove {name}"
        if self.local:
            return (
                "differs from the file that was registered first, "
                f"{self.source.removeprefix('file:')}; if that was the wrong one: {forget} first, "
                "or add with --replace"
            )
        return (
            f"differs from the file first downloaded from {self.source}; if its publisher "
            f"announced the change, forget that one: {forget}"
        )


def expected_pin(name: str, file: File) -> Pin | None:
    """The hash the file of an entry must have; None where none is known yet."""
    if file.sha256:
        return Pin(file.sha256, file.bytes)
    for folder in (data_folder(), *bundle_folders()):
        if pin := read_pins(folder / PINS).get(name):
            return pin
    return None


@contextmanager
def edit_pins() -> Iterator[dict[str, Pin]]:
    """The user's own pins by name of entry, locked, to be changed; written at the end."""
    path = data_folder() / PINS
    with locked(path):
        pins = read_pins(path)
        before = dict(pins)
        yield pins
        if pins != before:
            write_pins(path, pins)


def write_pins(path: Path, pins: dict[str, Pin]) -> None:
    """Write a file of pins."""
    with atomic_write(path) as file:
        json.dump({name: asdict(pin) for name, pin in sorted(pins.items())}, file, indent=2)


def read_pins(path: Path) -> dict[str, Pin]:
    """Read a file of pins by name of entry; none where there is no such file.

    Raises:
        WeightsError: it is something else.
    """
    try:
        return {name: Pin(**pin) for name, pin in json.loads(path.read_text("utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not a list of pinned hashes ({error})") from error


def fetch(name: str, file: File, watch: Watch = lambda _: lambda *_: None) -> Path:
    """The checked file of an entry, from this machine or the first source that provides it.

    Two processes that ask at once download once.

    Args:
        name: of the entry.
        file: the entry.
        watch: receives each source that is tried, and returns what receives its progress.

    Raises:
        WeightsError: no source provides the right file; with the reason for each, and what to do.
    """
    found, reasons = _search(name, file)
    if found:
        return found
    if not file.sources:
        raise WeightsError(explain_unpublished({name: file}))
    target = cached(name, file)
    with locked(target):
        # Whoever held the lock may have downloaded it.
        if target.is_file() and not file_error(target, name, file, expected_pin(name, file)):
            return target
        for source in file.sources:
            if source.startswith("file:"):
                continue
            reason = _download(name, file, source, target, watch)
            if not reason:
                return target
            reasons.append(f"{source}: {reason}")
    lines = [f"the weights {name} are unavailable:", *(f"  {reason}" for reason in reasons)]
    raise WeightsError("\n".join([*lines, _advice(name, file)]))


def fetch_all(
    names: Sequence[str], manifest: Manifest, watch: Watch = lambda _: lambda *_: None
) -> list[Path]:
    """`fetch` for several entries; nothing is downloaded where one of them is unpublished.

    Raises:
        WeightsError: as `fetch`; all unpublished entries are named at once.
    """
    files = {name: manifest.file(name) for name in names}
    if missing := unpublished(files):
        raise WeightsError(explain_unpublished(missing))
    return [fetch(name, files[name], watch) for name in names]


def unpublished(files: Mapping[str, File]) -> dict[str, File]:
    """Those entries that have no source and no valid file on this machine."""
    return {
        name: file
        for name, file in files.items()
        if not file.sources and _search(name, file)[0] is None
    }


def explain_unpublished(missing: Mapping[str, File]) -> str:
    """The message for unpublished entries: the commands that train and register them."""
    refused = [reason for name, file in missing.items() for reason in _search(name, file)[1]]
    refused = [f"  {reason}" for reason in refused]
    first = f"the weights {', '.join(missing)} are not published"
    recipes = {name: file for name, file in missing.items() if file.recipe}
    if not recipes:
        return "\n".join([first, *refused])
    lines = [f"{first}; train them:"]
    lines += [f"  python -m lungbox train {file.recipe} --data DIR" for file in recipes.values()]
    lines.append("and register the results:")
    for name, file in recipes.items():
        assert isinstance(file, Weights)
        result = f"{_run_folder(file)}/weights.safetensors"
        lines.append(f"  python -m lungbox weights add {name} {result}")
    return "\n".join([*lines, *(["Invalid files:", *refused] if refused else [])])


def _advice(name: str, file: File) -> str:
    """The last line of a failed download: what to do."""
    if isinstance(file, Int8Entry):
        return (
            "Make it here: python -m lungbox quantize ENSEMBLE --data DIR; or run with "
            "--precision float32"
        )
    add = f"python -m lungbox weights add {name} FILE"
    if all(source.startswith("file:") for source in file.sources):
        return f"Register it from where it is now: {add}"
    unset = (
        f"Unset {OFFLINE}, or set LUNGBOX_BUNDLE to a folder made by `python -m lungbox weights "
        "bundle`.\n"
    )
    return f"{unset if offline() else ''}Or download it in a browser and register it: {add}"


def _run_folder(weights: Weights) -> str:
    """Where `train` writes the result of an entry's recipe."""
    recipe = Path(weights.recipe.split()[0])
    file = recipe if recipe.is_absolute() else shipped_recipes() / f"{recipe.stem}.toml"
    try:
        name = str(tomllib.loads(file.read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError):
        return "runs/NAME"
    return f"runs/{name.replace('{architecture}', weights.architecture)}"


def _download(name: str, file: File, source: str, target: Path, watch: Watch) -> str:
    """Download `source` to `target`; returns why that failed, empty where it did not."""
    if offline():
        return f"not tried, {OFFLINE} is set"
    from lungbox.weights.download import SourceError, download

    pin = expected_pin(name, file)
    # Each source has a folder of its own, with what its library needs to resume.
    tag = hashlib.sha256(source.encode()).hexdigest()[:8]
    folder = target.with_name(f".{target.name}.{tag}.partial")
    if pin is None:  # two versions of a file may not be mixed
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    largest = (pin.bytes if pin else 0) or _MAX_BYTES
    try:
        got = download(source, folder, watch(source), largest, resume=pin is not None)
    except SourceError as error:
        with suppress(OSError):
            folder.rmdir()  # if it is empty
        return str(error)
    reason = file_error(got, name, file, pin)
    if not reason:
        if pin is None:
            with edit_pins() as pins:
                pins[name] = Pin(sha256(got), got.stat().st_size, source)
        copy(got, target)
    shutil.rmtree(folder)
    return reason


def _search(name: str, file: File) -> tuple[Path | None, list[str]]:
    """The valid file on this machine, and what is wrong with those checked before it."""
    pin = expected_pin(name, file)
    reasons: list[str] = []
    for path, listed in _candidates(name, file):
        if exists := path.is_file():
            reason = file_error(path, name, file, pin)
        else:
            reason = "there is no such file"
        if not reason:
            return path, reasons
        if listed or exists:
            reasons.append(f"{path}: {reason}")
    return None, reasons


def local(name: str, file: File) -> Path | None:
    """Where an entry's file is on this machine, valid or not; None where it is not."""
    return next((path for path, _ in _candidates(name, file) if path.is_file()), None)


def _candidates(name: str, file: File) -> list[tuple[Path, bool]]:
    """Paths to check for an entry's file, and whether the entry lists them: its local sources,
    bundles, the cache."""
    target = cached(name, file)
    others = [folder / target.name for folder in (*bundle_folders(), target.parent)]
    return [*((path, True) for path in local_sources(file)), *((path, False) for path in others)]


def local_sources(file: File) -> list[Path]:
    """The `file:` sources of an entry.

    Example:
        >>> sources = ("file:/data/lite0.safetensors", "https://example.org/lite0.safetensors")
        >>> lite0 = Weights(architecture="unet_lite0", image_size=256, sources=sources)
        >>> [path.name for path in local_sources(lite0)]
        ['lite0.safetensors']
    """
    return [Path(s.removeprefix("file:")) for s in file.sources if s.startswith("file:")]


def cached(name: str, file: File) -> Path:
    """Where a download of this entry is stored: a name that changes with the expected content."""
    identity = file.sha256 or "\n".join(file.sources)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return weights_cache() / f"{name}-{digest}{SUFFIXES[file.format]}"


def file_error(path: Path, name: str, file: File, pin: Pin | None) -> str:
    """Why a file is not that of the entry `name`; empty where it is. Without a pin, it has to be
    complete and finite."""
    if pin is None:
        return content_error(path, file.format)
    size = path.stat().st_size
    if pin.bytes and size != pin.bytes:
        return f"has {size:,} bytes instead of {pin.bytes:,}"
    if sha256(path) != pin.sha256:
        return header_error(path, file.format) or pin.mismatch(name)
    return ""


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy(source: Path, target: Path) -> None:
    """Copy a file, atomically."""
    with source.open("rb") as old, atomic_write(target, "wb") as new:
        shutil.copyfileobj(old, new)


def offline() -> bool:
    """Whether downloads are disabled."""
    return os.environ.get(OFFLINE, "0") not in ("", "0")


def new_terms_of_use(weights: Mapping[str, Weights]) -> list[str]:
    """A line for each weight file, by name, whose terms of use have not been shown yet on this
    machine, and are marked as shown now."""
    lines = []
    for name, one in weights.items():
        line = f"Terms of the weights {name}: {one.licence}"
        shown = cache_folder() / "terms" / hashlib.sha256(line.encode()).hexdigest()[:16]
        if not one.licence or shown.exists():
            continue
        lines.append(line)
        with suppress(OSError):  # then it is shown again
            shown.parent.mkdir(parents=True, exist_ok=True)
            shown.touch()
    return lines


def int8_files(
    manifest: Manifest, ensembles: Collection[str] | None = None
) -> dict[str, Int8Entry]:
    """The INT8 models of these ensembles, or all, by name."""
    keys = None if ensembles is None else precision_keys(manifest, ensembles)
    return {
        one.int8_name: one.int8
        for key, one in manifest.precisions.items()
        if one.int8 and (keys is None or key in keys)
    }


def precision_keys(manifest: Manifest, ensembles: Collection[str]) -> set[str]:
    """The keys of these ensembles' checks in other precisions; names of weights have none."""
    keys = {key for key, one in manifest.precisions.items() if one.ensemble in ensembles}
    found = (manifest.ensembles[name] for name in ensembles if name in manifest.ensembles)
    return keys | ({_key(manifest, ensemble) for ensemble in found} & manifest.precisions.keys())


def _key(manifest: Manifest, ensemble: Ensemble) -> str:
    """Empty where a member's hash is unknown."""
    members = []
    for name, weight in zip(ensemble.members, ensemble.normalized_weights, strict=True):
        weights = manifest.file(name)
        pin = expected_pin(name, weights)
        if pin is None:
            return ""
        members.append(fingerprint(pin.sha256, weights, weight))
    gates = [ensemble.members.index(name) for name in ensemble.gates]
    found = fingerprints(members, gates, ensemble.image_score)
    return key_of(found, ensemble.preparation, ensemble.flip, ensemble.views)
