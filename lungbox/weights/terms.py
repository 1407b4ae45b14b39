"""The terms weights may be used under, said once on each machine."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress

from lungbox.paths import cache_folder
from lungbox.weights.manifest import Weights


def unsaid(weights: Mapping[str, Weights]) -> list[str]:
    """A line for each weight file, by name, whose terms have not been said yet on this machine;
    they have been now. Where that cannot be kept, they are said again."""
    lines = []
    for name, one in weights.items():
        if not one.licence:
            continue
        line = f"Terms of the weights {name}: {one.licence}"
        said = cache_folder() / "terms" / hashlib.sha256(line.encode()).hexdigest()[:16]
        if said.exists():
            continue
        lines.append(line)
        with suppress(OSError):
            said.parent.mkdir(parents=True, exist_ok=True)
            said.touch()
    return lines
