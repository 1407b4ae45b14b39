"""From a manifest entry to a checked weight file on this machine."""

import hashlib
import os
import shutil
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from lungbox.paths import bundle_folders, shipped_recipes, weights_cache
from lungbox.weights import pins
from lungbox.weights.content import ENDINGS, fault_of_content
from lungbox.weights.download import Advance, SourceError
from lungbox.weights.entries import Quantised
from lungbox.weights.files import WeightsError
from lungbox.weights.locks import locked
from lungbox.weights.manifest import File, Manifest, Weights
from lungbox.weights.sources import retrieve
from lungbox.weights.structure import fault_of_structure

# Is told which source is tried, and gives what is told how far it is.
Watch = Callable[[str], Advance]

OFFLINE = "LUNGBOX_OFFLINE"
# Nothing Lungbox knows comes near it; a source of unknown size that sends more is at fault.
_LARGEST = 4 << 30


def fetch(name: str, weights: File, watch: Watch = lambda _: lambda *_: None) -> Path:
    """The checked file of `weights`, from this machine or the first source that gives it.

    A hash that is not known yet is pinned at the first download, and the file refused if it ever
    differs. Two processes that ask at once download once.

    Args:
        name: of the entry.
        weights: the entry.
        watch: is told which source is tried, and gives what is told how far it is.

    Raises:
        WeightsError: no source gives the right file; says why for each, and what to do.
    """
    found, reasons = _search(name, weights)
    if found:
        return found
    if not weights.sources:
        raise WeightsError(_how_to_train({name: weights}, reasons))
    target = cached(name, weights)
    with locked(target):
        # Whoever held the lock may have fetched it.
        if target.is_file() and not fault(target, name, weights, pins.expected(name, weights)):
            return target
        for source in weights.sources:
            if source.startswith("file:"):
                continue
            reason = _try(name, weights, source, target, watch)
            if not reason:
                return target
            reasons.append(f"{source}: {reason}")
    lines = [f"the weights {name} cannot be had:", *(f"  {reason}" for reason in reasons)]
    raise WeightsError("\n".join([*lines, _by_hand(name, weights)]))


def fetch_all(
    names: Iterable[str], manifest: Manifest, watch: Watch = lambda _: lambda *_: None
) -> list[Path]:
    """`fetch` for several entries; nothing is downloaded where one of them is not published.

    Raises:
        WeightsError: as `fetch`; all that are not published are named at once.
    """
    wanted = [(name, manifest.file(name)) for name in names]
    if missing := unpublished(dict(wanted)):
        raise WeightsError(explain_unpublished(missing))
    return [fetch(name, weights, watch) for name, weights in wanted]


def unpublished(wanted: Mapping[str, File]) -> dict[str, File]:
    """Those entries that have no source, and no right file on this machine."""
    return {
        name: weights
        for name, weights in wanted.items()
        if not weights.sources and _search(name, weights)[0] is None
    }


def explain_unpublished(missing: Mapping[str, File]) -> str:
    """What to do about entries that are not published, all together."""
    reasons = [reason for name, weights in missing.items() for reason in _search(name, weights)[1]]
    return _how_to_train(missing, reasons)


def _search(name: str, weights: File) -> tuple[Path | None, list[str]]:
    """The right file on this machine, and what is wrong with those looked at before it."""
    expected = pins.expected(name, weights)
    reasons: list[str] = []
    for path, named in _here(name, weights):
        here = path.is_file()
        reason = fault(path, name, weights, expected) if here else "there is no such file"
        if not reason:
            return path, reasons
        if named or here:
            reasons.append(f"{path}: {reason}")
    return None, reasons


def _by_hand(name: str, weights: File) -> str:
    """The closing line of a failure: what can be done."""
    if isinstance(weights, Quantised):
        return (
            "Make it here: python -m lungbox quantise ENSEMBLE --data DIR; or run with "
            "--precision float32"
        )
    add = f"python -m lungbox weights add {name} FILE"
    if all(source.startswith("file:") for source in weights.sources):
        return f"Enter it from where it is now: {add}"
    if offline():
        return (
            f"Unset {OFFLINE}, or set LUNGBOX_BUNDLE to a folder made by `python -m lungbox "
            f"weights bundle`.\nOr fetch it by hand and enter it: {add}"
        )
    return f"Or fetch it by hand and enter it: {add}"


def _how_to_train(missing: Mapping[str, File], reasons: list[str]) -> str:
    """What to say of entries that are not published: what is wrong, and the commands."""
    found = [f"  {reason}" for reason in reasons]
    first = f"the weights {', '.join(missing)} are not published"
    trained = {
        name: weights
        for name, weights in missing.items()
        if isinstance(weights, Weights) and weights.recipe
    }
    if not trained:
        return "\n".join([first, *found])
    training = [f"  python -m lungbox train {one.recipe} --data DIR" for one in trained.values()]
    entering = [
        f"  python -m lungbox weights add {name} {_run_folder(weights)}/weights.safetensors"
        for name, weights in trained.items()
    ]
    lines = [f"{first}; train them:", *training, "and enter the results:", *entering]
    return "\n".join([*lines, *(["Not taken:", *found] if found else [])])


def _run_folder(weights: Weights) -> str:
    """Where `train` leaves what the recipe of an entry gives: its label, in `runs/`."""
    recipe = Path(weights.recipe.split()[0])
    file = recipe if recipe.is_absolute() else shipped_recipes() / f"{recipe.stem}.toml"
    try:
        name = str(tomllib.loads(file.read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError):
        return "runs/NAME"
    return f"runs/{name.replace('{architecture}', weights.architecture)}"


def offline() -> bool:
    """Whether no source may be asked."""
    return os.environ.get(OFFLINE, "0") not in ("", "0")


def local(name: str, weights: File) -> Path | None:
    """Where the file is on this machine, right or wrong; None where it is not."""
    return next((path for path, _ in _here(name, weights) if path.is_file()), None)


def cached(name: str, weights: File) -> Path:
    """Where the file is kept once it is fetched: a name that changes with what is expected."""
    identity = weights.sha256 or "\n".join(weights.sources)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return weights_cache() / f"{name}-{digest}{ENDINGS[weights.format]}"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fault(path: Path, name: str, weights: File, expected: pins.Pin | None) -> str:
    """What is wrong with a file that should be `weights`; empty where it is right."""
    size = path.stat().st_size
    if expected is None:
        return fault_of_structure(path, weights.format)
    if expected.bytes and size != expected.bytes:
        return f"has {size:,} bytes instead of {expected.bytes:,}"
    if sha256(path) != expected.sha256:
        return fault_of_content(path, weights.format) or expected.complaint(name)
    return ""


def _here(name: str, weights: File) -> list[tuple[Path, bool]]:
    """Places on this machine, and whether the entry names them: its files, bundles, the cache."""
    target = cached(name, weights)
    files = [Path(s.removeprefix("file:")) for s in weights.sources if s.startswith("file:")]
    kept = [folder / target.name for folder in (*bundle_folders(), target.parent)]
    return [*((path, True) for path in files), *((path, False) for path in kept)]


def _try(name: str, weights: File, source: str, target: Path, watch: Watch) -> str:
    """Fetch `source` into `target`; returns why that failed, empty where it did not."""
    if offline():
        return f"not tried, for {OFFLINE} is set"
    # Each source has its own beginning to go on from.
    tag = hashlib.sha256(source.encode()).hexdigest()[:8]
    partial = target.with_name(f".{target.name}.{tag}.partial")
    expected = pins.expected(name, weights)
    largest = (expected.bytes if expected else 0) or _LARGEST
    try:
        got = retrieve(source, partial, watch(source), largest, known=expected is not None)
    except SourceError as error:
        return str(error)
    if reason := fault(got, name, weights, expected):
        partial.unlink(missing_ok=True)
        return reason
    if expected is None:
        pins.add(name, pins.Pin(sha256(got), got.stat().st_size, source))
    if got != partial:
        shutil.copyfile(got, partial)
    partial.replace(target)
    return ""
