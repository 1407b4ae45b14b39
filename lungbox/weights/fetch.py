"""From a manifest entry to a weight file on this machine, its hash checked."""

import hashlib
from pathlib import Path

from lungbox.weights.files import WeightsError
from lungbox.weights.manifest import Weights


def fetch(name: str, weights: Weights) -> Path:
    """The checked file of `weights`.

    Args:
        name: of the entry, for messages.
        weights: the entry.

    Raises:
        WeightsError: no source gives a file with the right hash; says why for each.
    """
    if not weights.sources:
        how = f"train them: python train.py {weights.recipe} --data DIR" if weights.recipe else ""
        raise WeightsError(f"the weights {name} are not published; {how}".rstrip("; "))
    reasons = []
    for source in weights.sources:
        scheme, _, place = source.partition(":")
        if scheme != "file":
            reasons.append(f"{source}: this version reads file: sources only")
            continue
        path = Path(place)
        reason = _fault(path, weights)
        if not reason:
            return path
        reasons.append(f"{path}: {reason}")
    raise WeightsError(f"the weights {name} cannot be had. " + "; ".join(reasons))


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fault(path: Path, weights: Weights) -> str:
    if not path.is_file():
        return "there is no such file"
    if path.stat().st_size != weights.bytes:
        return f"has {path.stat().st_size:,} bytes instead of {weights.bytes:,}; it is cut off"
    if sha256(path) != weights.sha256:
        return "is not the file that was entered (its SHA-256 differs); get it again"
    return ""
