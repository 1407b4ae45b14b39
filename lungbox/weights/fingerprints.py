"""What an ensemble's predictions depend on, for the keys of precision checks and caches."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from lungbox.radiograph.prepare import VERSIONS, Preparation
from lungbox.weights.entries import ImageScore, Weights

# The properties of an ensemble's member that its masks and scores depend on.
Fingerprint = list[str | int | float]


def fingerprint(sha256: str, weights: Weights, weight: float) -> Fingerprint:
    """What an ensemble's masks depend on in one member: its file, network, input size, weight in
    the average, and options of the network."""
    options = [f"{name} {value}" for name, value in sorted(weights.options.items())]
    return [sha256, weights.architecture, weights.image_size, round(weight, 6), *options]


def fingerprints(
    members: list[Fingerprint], gates: Sequence[int], image_score: ImageScore
) -> list[Fingerprint]:
    """The fingerprints of an ensemble: its members', then what its image score is made of, where
    that is not the mean of all image heads.

    >>> fingerprints([["75b1", "unet_lite0", 256, 1.0]], gates=[0], image_score="mask")[1:]
    [['gates', 0], ['image score', 'mask']]
    """
    found = list(members)
    if gates:
        found.append(["gates", *gates])
    if image_score != "head":
        found.append(["image score", image_score])
    return found


def key_of(
    members: Sequence[Fingerprint],
    preparation: Preparation,
    flip: bool,
    views: Sequence[str] = (),
) -> str:
    """The key of an ensemble's `Precisions`: a hash of all its masks depend on, so that ensembles
    that differ only in their operating point share it.

    Example:
        >>> lite0 = Weights(architecture="unet_lite0", image_size=256)
        >>> member = fingerprint("75b1", lite0, weight=1.0)
        >>> member
        ['75b1', 'unet_lite0', 256, 1.0]
        >>> key_of([member], "equalised", flip=False) == key_of([member], "equalised", flip=True)
        False
    """
    settings: dict[str, Any] = {"preparation": preparation, "flip": flip}
    if views:
        settings["views"] = list(views)
    if VERSIONS[preparation] > 1:
        settings["version"] = VERSIONS[preparation]
    text = json.dumps([list(members), settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
