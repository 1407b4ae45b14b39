"""From a manifest entry to a checked weight file on this machine."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from lungbox.paths import bundle_folders, weights_cache
from lungbox.weights import pins
from lungbox.weights.content import ENDINGS, fault_of_content
from lungbox.weights.download import Advance, SourceError
from lungbox.weights.files import WeightsError
from lungbox.weights.manifest import Weights
from lungbox.weights.sources import retrieve

# Is told which source is tried, and gives what is told how far it is.
Watch = Callable[[str], Advance]

OFFLINE = "LUNGBOX_OFFLINE"
# Nothing Lungbox knows comes near it; a source of unknown size that sends more is at fault.
_LARGEST = 4 << 30


def fetch(name: str, weights: Weights, watch: Watch = lambda _: lambda *_: None) -> Path:
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
    expected = pins.expected(name, weights)
    reasons = []
    for path, named in _here(name, weights):
        reason = fault(path, weights, expected) if path.is_file() else "there is no such file"
        if not reason:
            return path
        if named or path.is_file():
            reasons.append(f"{path}: {reason}")
    if not weights.sources:
        raise WeightsError(_unpublished(name, weights, reasons))
    target = cached(name, weights)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        # Whoever held the lock may have fetched it.
        if target.is_file() and not fault(target, weights, pins.expected(name, weights)):
            return target
        for source in weights.sources:
            if source.startswith("file:"):
                continue
            reason = _try(name, weights, source, target, watch)
            if not reason:
                return target
            reasons.append(f"{source}: {reason}")
    raise WeightsError(f"the weights {name} cannot be had:\n  " + "\n  ".join(reasons))


def _unpublished(name: str, weights: Weights, reasons: list[str]) -> str:
    if not weights.recipe:
        return f"the weights {name} are not published" + "".join(f"\n  {r}" for r in reasons)
    return (
        f"the weights {name} are not published; train them:\n"
        f"  python train.py {weights.recipe} --data DIR\n"
        f"and enter the result: lungbox weights add {name} runs/NAME/weights.safetensors"
    )


def local(name: str, weights: Weights) -> Path | None:
    """Where the file is on this machine, right or wrong; None where it is not."""
    return next((path for path, _ in _here(name, weights) if path.is_file()), None)


def cached(name: str, weights: Weights) -> Path:
    """Where the file is kept once it is fetched: a name that changes with what is expected."""
    identity = weights.sha256 or "\n".join(weights.sources)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return weights_cache() / f"{name}-{digest}{ENDINGS[weights.format]}"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fault(path: Path, weights: Weights, expected: pins.Pin | None) -> str:
    """What is wrong with a file that should be `weights`; empty where it is right."""
    size = path.stat().st_size
    if expected is None:
        return fault_of_content(path, weights.format)
    if expected.bytes and size != expected.bytes:
        return f"has {size:,} bytes instead of {expected.bytes:,}"
    if sha256(path) != expected.sha256:
        return fault_of_content(path, weights.format) or expected.complaint
    return ""


def _here(name: str, weights: Weights) -> list[tuple[Path, bool]]:
    """Places on this machine, and whether the entry names them: its files, bundles, the cache."""
    target = cached(name, weights)
    files = [Path(s.removeprefix("file:")) for s in weights.sources if s.startswith("file:")]
    kept = [folder / target.name for folder in (*bundle_folders(), target.parent)]
    return [*((path, True) for path in files), *((path, False) for path in kept)]


def _try(name: str, weights: Weights, source: str, target: Path, watch: Watch) -> str:
    """Fetch `source` into `target`; returns why that failed, empty where it did not."""
    if os.environ.get(OFFLINE, "0") not in ("", "0"):
        return f"not tried, for {OFFLINE} is set"
    # Each source has its own beginning to go on from.
    tag = hashlib.sha256(source.encode()).hexdigest()[:8]
    partial = target.with_name(f".{target.name}.{tag}.partial")
    expected = pins.expected(name, weights)
    largest = (expected.bytes if expected else 0) or _LARGEST
    try:
        got = retrieve(source, partial, watch(source), largest)
    except SourceError as error:
        return str(error)
    if reason := fault(got, weights, expected):
        partial.unlink(missing_ok=True)
        return reason
    if expected is None:
        pins.add(name, pins.Pin(sha256(got), got.stat().st_size, source))
    if got != partial:
        shutil.copyfile(got, partial)
    partial.replace(target)
    return ""
