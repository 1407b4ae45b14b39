"""What is known of an ensemble in other precisions is found by what the ensemble computes."""

from lungbox.datasets.store import Store
from lungbox.radiograph.prepare import VERSIONS
from lungbox.weights.computation import facts, key_of
from lungbox.weights.manifest import Weights

WEIGHTS = Weights(architecture="unet_lite0", image_size=64)


def test_a_preparation_that_computes_something_else_voids_what_was_kept(monkeypatch, tmp_path):
    members = [facts("a" * 64, WEIGHTS, 1.0)]

    def keys():
        found = [key_of(members, preparation, flip=False) for preparation in VERSIONS]
        return found + [Store(tmp_path, 64, preparation).folder for preparation in VERSIONS]

    before = keys()
    monkeypatch.setitem(VERSIONS, "nearest", VERSIONS["nearest"] + 1)
    same = [one == other for one, other in zip(before, keys(), strict=True)]
    assert same == [preparation != "nearest" for preparation in VERSIONS] * 2
