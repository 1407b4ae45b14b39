"""The mean of weight files of one network."""

import numpy as np
import pytest

from lungbox import architecture
from lungbox.errors import LungboxError
from lungbox.weights.average import average_weights
from lungbox.weights.collection import add
from lungbox.weights.entries import Ensemble
from lungbox.weights.formats.safetensors import read_tensors, save_weights
from lungbox.weights.manifest import ManifestError, load_manifest, register, register_ensemble
from tests.small import registered
from tests.small_detectors import registered_detectors
from tests.tiny import save_tiny, weights_of


@pytest.fixture
def three(tmp_path, own_home):
    """Two of one network with known folds, and one of another input size."""
    with registered():
        for seed, size, folds in ((1, 64, (1, 2)), (2, 64, (2, 4)), (3, 32, None)):
            path = save_tiny(tmp_path / f"{seed}.safetensors", seed)
            weights = weights_of(path, image_size=size, folds=folds)
            register(f"run-{seed}", weights, Ensemble(members=(f"run-{seed}",)))
        yield tmp_path


def test_each_variable_is_the_weighted_mean(three):
    first, second = (read_tensors(three / f"{seed}.safetensors") for seed in (1, 2))
    mean = read_tensors(average_weights("mean", ["run-1", "run-2"], [1, 3]))
    assert mean.keys() == first.keys()
    for path, values in mean.items():
        expected = 0.25 * first[path] + 0.75 * second[path]
        assert values == pytest.approx(expected, abs=1e-6), path
    equal = read_tensors(average_weights("equal", ["run-1", "run-2"]))["mask_logits/kernel"]
    assert np.abs(equal - mean["mask_logits/kernel"]).max() > 0.1
    entry = load_manifest().weights["mean"]
    assert (entry.folds, entry.image_size) == ((1, 2, 4), 64)
    assert load_manifest().ensemble("mean").members == ("mean",)


def test_the_classes_of_a_detector_stay(tmp_path, own_home):
    """Also where it is built for others than its own, by which its weights have other shapes."""
    names = ("Aortic enlargement", "ILD", "Nodule/Mass")
    with registered_detectors():
        for number in (1, 2):
            file = tmp_path / f"{number}.safetensors"
            save_weights(architecture.build("small_retinanet", 64, names), file)
            add(f"run-{number}", file, "small_retinanet", folds=(1,), class_names=names)
        average_weights("mean", ["run-1", "run-2"])
        with pytest.raises(LungboxError, match="class_logits"):
            add("opacity", file, "small_retinanet")
    entry = load_manifest().weights["mean"]
    assert (entry.class_names, entry.kind, entry.folds) == (names, "detection", (1,))


def test_the_preparation_and_the_options_stay(tmp_path, own_home):
    """Images of the mean are padded as its members' are, and its anchors are theirs."""
    options = {"anchor_size": 4.0}
    with registered_detectors():
        for number, preparation in ((1, "padded"), (2, "padded"), (3, "equalised")):
            file = tmp_path / f"{number}.safetensors"
            save_weights(architecture.build("small_retinanet", 64, **options), file)
            add(f"run-{number}", file, "small_retinanet", folds=(1,), options=options)
            alone = Ensemble(members=(f"run-{number}",), preparation=preparation, min_score=0.01)
            register_ensemble(f"run-{number}", alone)
        average_weights("mean", ["run-1", "run-2"])
        with pytest.raises(LungboxError, match="prepare radiographs in different ways"):
            average_weights("other", ["run-1", "run-3"])
    found = load_manifest()
    assert found.weights["mean"].options == options
    assert (found.ensembles["mean"].preparation, found.ensembles["mean"].min_score) == (
        "padded", 0.01,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("members", "shares", "sentence"),
    [
        (["run-1"], [], "give two weights or more"),
        (["run-1", "run-2"], [1.0], "for each one share above 0"),
        (["run-1", "run-2"], [1.0, 0.0], "for each one share above 0"),
        (["run-1", "run-3"], [], "run-3 is not of the same network as run-1"),
        (["run-1", "run-7"], [], "did you mean"),
    ],
)
def test_what_is_no_mean_is_refused(three, members, shares, sentence):
    with pytest.raises(LungboxError, match=sentence):
        average_weights("mean", members, shares)
    with pytest.raises(ManifestError, match="no weights"):
        load_manifest().file("mean")
