"""What an ensemble computes, apart from how its masks become boxes.

What is known of it in other precisions is entered under this, so that ensembles that differ in
their operating point alone share it.
"""

import hashlib
import json
from collections.abc import Collection, Sequence

from lungbox.radiograph.prepare import VERSIONS, Preparation
from lungbox.weights import pins
from lungbox.weights.entries import Quantised
from lungbox.weights.manifest import Ensemble, Manifest, Weights

# What decides a member's part of the average.
Facts = list[str | int | float]


def facts(sha256: str, weights: Weights, share: float) -> Facts:
    """All of a member that decides an ensemble's masks and scores: its file, the network and size
    it is read into, its share of the average."""
    return [sha256, weights.architecture, weights.image_size, round(share, 6)]


def key_of(members: Sequence[Facts], preparation: Preparation, flip: bool) -> str:
    """What is known of an ensemble in other precisions is entered under this."""
    settings: dict[str, str | bool | int] = {"preparation": preparation, "flip": flip}
    if VERSIONS[preparation] > 1:
        settings["version"] = VERSIONS[preparation]
    text = json.dumps([list(members), settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def int8_files(
    manifest: Manifest, ensembles: Collection[str] | None = None
) -> dict[str, Quantised]:
    """The INT8 models of these ensembles, or all there are, by their names."""
    keys = set(manifest.precisions) if ensembles is None else keys_of(manifest, ensembles)
    return {
        known.int8_name: known.int8
        for key, known in manifest.precisions.items()
        if known.int8 and key in keys
    }


def keys_of(manifest: Manifest, ensembles: Collection[str]) -> set[str]:
    """The keys of all that is known of these ensembles in other precisions; a name that is none of
    an ensemble's has none."""
    keys = {key for key, known in manifest.precisions.items() if known.ensemble in ensembles}
    named = (manifest.ensembles[name] for name in ensembles if name in manifest.ensembles)
    return keys | ({_key(manifest, ensemble) for ensemble in named} & set(manifest.precisions))


def _key(manifest: Manifest, ensemble: Ensemble) -> str:
    """Empty where the hash of a member is not known yet."""
    found: list[Facts] = []
    for name, share in zip(ensemble.members, ensemble.shares, strict=True):
        weights = manifest.file(name)
        pin = pins.expected(name, weights)
        if pin is None:
            return ""
        found.append(facts(pin.sha256, weights, share))
    return key_of(found, ensemble.preparation, ensemble.flip)
