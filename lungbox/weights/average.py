"""The mean of weights: several runs of one network as one network."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from lungbox.weights.collection import add
from lungbox.weights.entries import Ensemble, Weights
from lungbox.weights.formats.safetensors import WeightsError, read_tensors
from lungbox.weights.manifest import load_manifest, register_ensemble
from lungbox.weights.store import fetch


def average_weights(
    name: str, members: Sequence[str], shares: Sequence[float] = (), replace: bool = False
) -> Path:
    """Average weight files of one network variable by variable, and register the result.

    The network costs no more than one of them. It works where they lie in one basin of the loss,
    as when one run began with the other's weights (Wortsman et al., *Model soups*, ICML 2022).

    Args:
        name: of the new entry; its training folds are those of all members.
        members: names in the manifest.
        shares: weight of each member, above 0; the same for all where empty.
        replace: whether it replaces an entry of the user's own.

    Returns:
        The new file.

    Raises:
        ManifestError: a name is unknown or not available.
        WeightsError: there are fewer than two members, the shares are not theirs, or the members
            are of different networks.
    """
    manifest = load_manifest()
    entries = [manifest.file(member) for member in members]
    shares = shares or [1.0] * len(members)
    if len(members) < 2 or len(shares) != len(members) or min(shares) <= 0:
        raise WeightsError("give two weights or more, and for each one share above 0, or none")
    for member, entry in zip(members, entries, strict=True):
        if _network(entry) != _network(entries[0]) or entry.format != "safetensors":
            raise WeightsError(
                f"{member} is not of the same network as {members[0]}, with its image size, "
                "classes and options"
            )
    tensors = [
        read_tensors(fetch(member, entry)) for member, entry in zip(members, entries, strict=True)
    ]
    weights = np.asarray(shares, np.float64) / sum(shares)
    mean = {
        path: sum(
            weight * one[path].astype(np.float64)
            for weight, one in zip(weights, tensors, strict=True)
        ).astype(np.float32)
        for path in tensors[0]
    }
    ensembles = [manifest.ensembles[one] for one in members if one in manifest.ensembles]
    if len({one.preparation for one in ensembles}) > 1:
        raise WeightsError("the members' own ensembles prepare radiographs in different ways")
    found = [manifest.training_folds(member) for member in members]
    known = [one for one in found if one is not None]
    folds = tuple(sorted(frozenset().union(*known))) if len(known) == len(found) else None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.safetensors"
        save_file(mean, file)
        first = entries[0]
        path = add(
            *(name, file, first.architecture, first.image_size, replace, folds),
            class_names=first.class_names,
            options=first.options,
        )
    if ensembles:
        _decide_as(name, ensembles[0])
    return path


def _decide_as(name: str, other: Ensemble) -> None:
    """Give the new ensemble another's preparation, and what its kind of boxes needs."""
    keys = ("preparation", "min_area", "shrink", "min_score")
    own = load_manifest().ensembles[name]
    register_ensemble(name, own.model_copy(update={key: getattr(other, key) for key in keys}))


def _network(entry: Weights) -> tuple[object, ...]:
    return entry.architecture, entry.image_size, entry.class_names, entry.options
