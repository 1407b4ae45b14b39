"""The keys of a run as a whole: what is built, its stages, its scores, its name."""

import numpy as np
import pytest
from rich.console import Console

from lungbox.datasets import load
from lungbox.radiograph import prepare, read
from lungbox.training.recipe import Recipe
from lungbox.training.run import run
from lungbox.training.validation import Score, ValidationScorer
from lungbox.weights.formats.safetensors import load_weights
from lungbox.weights.manifest import load_manifest
from tests.training import test_detection as detection_keys
from tests.training import (
    test_keys_augmentation,
    test_keys_data,
    test_keys_findings,
    test_keys_loss,
    test_keys_task,
    test_labels,
)
from tests.training import test_keys_optimizer as optimizer_keys
from tests.training.keys import CHECKED, SIDE, checks, drawn, keys_of, trainee_of
from tests.training.runs import Untrained, config_of, train, written

pytestmark = pytest.mark.usefixtures("small_networks")


def test_every_key_is_checked():
    """A key that nothing checks may be read and forgotten: write a test and mark it with
    `checks`."""
    modules = (
        test_keys_augmentation, test_keys_data, test_keys_findings, test_keys_loss, test_keys_task,
        detection_keys, optimizer_keys, test_labels,
    )  # fmt: skip
    assert all(module.checks is checks for module in modules)  # imported, so their marks are there
    every = set(keys_of(Recipe))
    assert {"optimizer.ema", "stages.image_size", "distillation.share", "seed"} <= every
    assert every - CHECKED == set()
    assert CHECKED - every == set()  # of a key that is no more


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("keys"), count=30)


@checks("stages.epochs", "stages.image_size")
def test_stages_follow_each_other_with_the_same_weights(folder, monkeypatch):
    ran = Untrained(monkeypatch)
    stages = "stages=[{ epochs = 2, image_size = 32 }, { epochs = 3, image_size = 64 }]"
    train(folder, "stages", stages)
    assert [epoch for epoch, *_ in ran.given] == [1, 2, 3, 4, 5]
    sizes = [model.input_shape[1] for _, model, *_ in ran.given]
    assert sizes == [32, 32, 64, 64, 64]
    for size, (images, targets) in zip(sizes, ran.first_batches, strict=True):
        assert images.shape == (2, size, size, 1)
        assert targets["mask"].shape == (2, size // 4, size // 4, 2)
    # The second stage continues with the first one's weights, and no epoch has another's batches.
    assert [bias for _, _, bias, _ in ran.given] == [0, 1, 2, 3, 4]
    assert len({images.tobytes() for images, _ in ran.first_batches}) == 5
    for _, model, *_ in ran.given:
        # One cosine over the 15 steps of all stages.
        for step, rate in ((0, 1), (5, 0.75), (10, 0.25), (15, 0)):
            model.optimizer.iterations.assign(step)
            assert float(model.optimizer.learning_rate) == pytest.approx(1e-3 * rate, abs=1e-8)


@checks("validation.every")
@pytest.mark.parametrize(("every", "scored"), [(2, [2, 4, 5]), (3, [3, 5]), (9, [5])])
def test_every(folder, monkeypatch, every, scored):
    ran, asked = Untrained(monkeypatch), []

    def score(_):
        asked.append(len(ran.given))
        return Score(0.1, 0.5)

    monkeypatch.setattr(ValidationScorer, "score", score)
    changes = ("stages=[{ epochs = 5, image_size = 32 }]",)
    train(folder, f"every-{every}", *changes, f"validation={{ fold = 0, every = {every} }}")
    assert asked == scored


@checks("validation.batch_size")
@pytest.mark.parametrize(("given", "expected"), [("", 2), (", batch_size = 3", 3)])
def test_batches_of_the_held_out_fold(folder, monkeypatch, given, expected):
    """Every image once, as it is, in batches of the size that is asked for."""
    Untrained(monkeypatch)
    seen = []

    def score(validation):
        seen.extend(validation._batches[step] for step in range(len(validation._batches)))
        return Score(0.1, 0.5)

    monkeypatch.setattr(ValidationScorer, "score", score)
    changes = ("augmentation.enabled=true", "data.category_weights={ Normal = 0 }")
    scoring = f"validation={{ fold = 0{given} }}"
    train(folder, f"held-out-{expected}", *changes, scoring)
    held_out = [image for image in load(folder / "data").images if image.fold == 0]
    images = np.concatenate([images for images, *_ in seen])[..., 0]
    assert [len(images) for images, *_ in seen] == [expected] * (len(held_out) // expected)
    once = [prepare(read(image.path).pixels, SIDE) for image in held_out]
    assert sorted(x.tobytes() for x in images) == sorted(np.float32(x).tobytes() for x in once)


@checks("validation.patience")
@pytest.mark.parametrize(
    ("patience", "ran_for", "kept"), [(0, 6, 6), (1, 3, 2), (2, 4, 2), (3, 6, 5)]
)
def test_patience(folder, monkeypatch, patience, ran_for, kept):
    """Only a patience of 3 sees the best score, the fifth; without any, the last is kept."""
    ran, values = Untrained(monkeypatch), iter([0.2, 0.4, 0.3, 0.3, 0.5, 0.1])
    monkeypatch.setattr(ValidationScorer, "score", lambda _: Score(next(values), 0.5))
    changes = ("stages=[{ epochs = 6, image_size = 32 }]", "optimizer.ema=0")
    scoring = f"validation={{ fold = 0, every = 1, patience = {patience} }}"
    path = train(folder, f"patience-{patience}", *changes, scoring)
    assert len(ran.given) == ran_for
    network = ran.given[0][1]
    load_weights(network, path)
    assert float(np.array(network.get_layer("mask_logits").bias)[0]) == kept


@checks("architecture", "options", "policy", "seed")
def test_what_is_built():
    plain = trainee_of()
    dropout = [layer for layer in plain.inference_model.layers if "drop" in layer.name]
    assert {layer.rate for layer in dropout} == {0.1, 0.2}
    changed = trainee_of(options={"dropout": 0.35})
    assert {x.rate for x in changed.inference_model.layers if "drop" in x.name} == {0.35, 0.2}
    assert set(trainee_of(architecture="only_a_mask").outputs) == {"mask"}
    assert set(plain.outputs) == {"mask", "image"}
    mixed = trainee_of(policy="mixed_bfloat16").inference_model.get_layer("second")
    assert (mixed.compute_dtype, mixed.variable_dtype) == ("bfloat16", "float32")
    assert plain.inference_model.get_layer("second").compute_dtype == "float32"
    kernels = [
        np.array(trainee_of(seed=seed).inference_model.get_layer("second").kernel)
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0.01


@checks("seed")
def test_the_seed_decides_what_is_drawn(folder, monkeypatch):
    ran = Untrained(monkeypatch)
    for name, seed in (("seed-1", 1), ("seed-1-again", 1), ("seed-2", 2)):
        train(folder, name, f"seed={seed}")
    orders = [drawn(batches) for *_, batches in ran.given]
    assert orders[0] == orders[1] != orders[2]


@checks("name")
def test_the_name_is_that_of_the_weights(folder, own_home, monkeypatch):
    Untrained(monkeypatch)
    name = run(config_of(folder, "named"), Console(quiet=True))
    assert name.startswith("keys-two_convolutions-")
    weights = load_manifest().weights[name]
    assert (weights.architecture, weights.image_size, weights.folds) == (
        "two_convolutions", SIDE, (1, 2, 3, 4),
    )  # fmt: skip
