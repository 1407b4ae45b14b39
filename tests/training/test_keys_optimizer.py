"""Every key of the section `optimizer` changes the steps as the papers say, number by number."""

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from lungbox.training import model as training
from lungbox.training.initial_weights import (
    check_initial_weights,
    encoder_file,
    initial_folds,
)
from lungbox.training.optimizer import moving_average_weights
from lungbox.training.recipe import RecipeError
from lungbox.weights.manifest import ManifestError
from tests.training.keys import checks, recipe_of, trainee_of

pytestmark = pytest.mark.usefixtures("small_networks")

STEPS, EPOCHS = 8, 4
# Small rates and weak decay would hide in the tolerance.
BASE = {
    "kind": "adamw",
    "momentum": 0.9,
    "learning_rate": 0.02,
    "encoder_learning_rate": 0.02,
    "schedule": "cosine",
    "step_epochs": None,
    "step_factor": 0.1,
    "warmup": 0.0,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "ema": 0.0,
}
CHANGES = {
    "none": {},
    "learning_rate": {"learning_rate": 0.05, "encoder_learning_rate": 0.05},
    "encoder_learning_rate": {"encoder_learning_rate": 0.004},
    "schedule": {"schedule": "constant"},
    "warmup": {"warmup": 0.5},
    "weight_decay": {"weight_decay": 0.8, "encoder_learning_rate": 0.004},
    "clip_norm": {"clip_norm": 0.5},
    # The momentum rises from 0 to this; in eight steps it would not reach a usual one.
    "ema": {"ema": 0.2, "schedule": "constant"},
    "kind": {"kind": "sgd", "schedule": "constant"},
    "momentum": {"kind": "sgd", "schedule": "constant", "momentum": 0.5},
    "step_epochs": {"schedule": "step", "step_epochs": 1},
    "step_factor": {"schedule": "step", "step_epochs": 1, "step_factor": 0.5, "warmup": 0.25},
    "sgd with all": {
        "kind": "sgd",
        "schedule": "step",
        "step_epochs": 2,
        "encoder_learning_rate": 0.004,
        "warmup": 0.5,
        "weight_decay": 0.8,
        "clip_norm": 0.5,
        "ema": 0.3,
    },
    "all": {
        "encoder_learning_rate": 0.004,
        "warmup": 0.25,
        "weight_decay": 0.8,
        "clip_norm": 0.5,
        "ema": 0.3,
    },
}


def gradients(variables):
    """Of very different norms, so that Adam does not make up for one that is not clipped."""
    random = np.random.default_rng(5)
    for step in range(STEPS):
        size = (0.01, 30.0, 0.1)[step % 3]
        yield [random.normal(0, size, v.shape).astype(np.float32) for v in variables]


def rate(settings, step):
    """Linear to the full rate, then half a cosine to 0 at the last step, steps down, or no fall."""
    high, warm = settings["learning_rate"], int(settings["warmup"] * STEPS)
    if settings["schedule"] == "step":
        falls = step // (settings["step_epochs"] * STEPS // EPOCHS)
        return high * settings["step_factor"] ** falls * (min(1, step / warm) if warm else 1)
    if step < warm:
        return high * step / warm
    if settings["schedule"] == "constant":
        return high
    return high * 0.5 * (1 + np.cos(np.pi * (step - warm) / (STEPS - warm)))


def by_hand(settings, values, pretrained, decayed, every):
    """AdamW (Loshchilov and Hutter, 2019, algorithm 2), or SGD with the velocity of Sutskever et
    al. (2013, equations 1 and 2), whose rate is that of its own step: the last weights and their
    average."""
    values = [value.astype(np.float64) for value in values]
    first, second = ([np.zeros_like(v) for v in values] for _ in "ab")
    averages = [value.copy() for value in values]
    for step, found in enumerate(every):
        now = rate(settings, step)
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in found))
        clip = settings["clip_norm"]
        shrink = clip / norm if clip and norm > clip else 1.0
        momentum = min(settings["ema"], step / (step + 9))
        for i, gradient in enumerate(found):
            g = gradient * shrink
            own = settings["encoder_learning_rate"] / settings["learning_rate"]
            scaled = now * (own if pretrained[i] else 1.0)
            if decayed[i]:
                values[i] -= now * settings["weight_decay"] * values[i]
            if settings["kind"] == "sgd":
                first[i] = settings["momentum"] * first[i] - scaled * g
                values[i] += first[i]
                averages[i] = momentum * averages[i] + (1 - momentum) * values[i]
                continue
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g**2
            # Both corrections in the rate, as at the end of Kingma and Ba's section 2.
            scaled *= np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
            values[i] -= scaled * first[i] / (np.sqrt(second[i]) + 1e-7)
            averages[i] = momentum * averages[i] + (1 - momentum) * values[i]
    return values, averages


def pretend_pretrained(monkeypatch, *prefixes):
    """As if an encoder's file had filled the variables of these layers."""
    asked = []

    def load(model, encoder, file):
        asked.append((encoder, file))
        return frozenset(v.path for v in model.weights if v.path.startswith(prefixes))

    monkeypatch.setattr(training, "load_encoder", load)
    return asked


@checks(*(f"optimizer.{key}" for key in BASE))
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_steps_and_average_are_the_papers(changes, monkeypatch):
    settings = BASE | changes
    pretend_pretrained(monkeypatch, "first/")
    stages = [{"epochs": EPOCHS, "image_size": 32}]
    trainable = trainee_of(STEPS, optimizer=settings, encoder_weights="imagenet", stages=stages)
    variables = trainable.training_model.trainable_variables
    start = [np.array(v) for v in variables]
    every = list(gradients(variables))
    pretrained = [v.path.startswith("first/") for v in variables]
    # Kernels, and nothing else: of convolutions and of the image score.
    decayed = [v.path.endswith("kernel") for v in variables]
    assert {v.path for v in variables if not v.path.endswith("kernel")} >= {
        "norm/gamma", "norm/beta", "first/bias", "image/bias",
    }  # fmt: skip
    expected, means = by_hand(settings, start, pretrained, decayed, every)
    for found in every:
        trainable.optimizer.apply([keras.ops.convert_to_tensor(g) for g in found], variables)
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(np.array(variable), value, atol=2e-5, err_msg=variable.path)
    with moving_average_weights(trainable.training_model, trainable.optimizer):
        for variable, value in zip(variables, means if settings["ema"] else expected, strict=True):
            np.testing.assert_allclose(np.array(variable), value, atol=2e-5, err_msg=variable.path)
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(np.array(variable), value, atol=2e-5, err_msg=variable.path)


def test_every_setting_above_makes_a_difference():
    """Otherwise a setting that is ignored would pass."""
    random = np.random.default_rng(0)
    start = [random.normal(0, 1, shape) for shape in ((5, 5, 1, 8), (8,))]
    ends = {}
    for name, changes in CHANGES.items():
        every = gradients([np.empty(value.shape) for value in start])
        settings = BASE | changes
        last, mean = by_hand(settings, start, [True, False], [True, False], every)
        ends[name] = np.concatenate([v.ravel() for v in (mean if settings["ema"] else last)])
    for name, end in ends.items():
        others = [np.abs(end - other).max() for key, other in ends.items() if key != name]
        assert min(others) > 0.001, name


@checks("encoder_weights")
def test_the_encoder_starts_from_what_the_recipe_says(monkeypatch):
    asked = pretend_pretrained(monkeypatch, "first/")
    for given in ("none", "imagenet", "some/encoder.h5"):
        trainee_of(encoder_weights=given)
    assert [(encoder, file and file.as_posix()) for encoder, file in asked] == [
        ("none", None), ("none", "some/encoder.h5"),
    ]  # fmt: skip
    assert encoder_file(recipe_of(encoder_weights="imagenet")) is None


def test_the_encoder_of_a_network_in_the_manifest(own_home, monkeypatch):
    """By the name of its weights, or of an ensemble of it alone; its folds count as trained on."""
    asked = pretend_pretrained(monkeypatch, "first/")
    for given in ("lite0", "default"):
        trainee_of(encoder_weights=given)
        recipe = recipe_of(encoder_weights=given)
        assert encoder_file(recipe).name == "lite0.safetensors"
        assert initial_folds(recipe) == {1, 2, 3, 4}
    assert [file.name for _, file in asked] == ["lite0.safetensors"] * 2
    scored = recipe_of(
        encoder_weights="default",
        data={"folds": [0], "samples_per_epoch": 4},
        validation={"fold": 1},
    )
    with pytest.raises(RecipeError, match=r"initial weights default were trained on fold 1"):
        check_initial_weights(scored)
    with pytest.raises(ManifestError, match=r"no weights are called lit0; did you mean lite0"):
        encoder_file(recipe_of(encoder_weights="lit0"))


@checks("optimizer.encoder_learning_rate")
def test_a_rate_of_0_freezes_pretrained_layers_and_their_statistics(monkeypatch):
    pretend_pretrained(monkeypatch, "first/", "norm/")
    still, free = (
        trainee_of(encoder_weights="imagenet", optimizer={"encoder_learning_rate": rate})
        for rate in (0, 1e-3)
    )
    trained = {v.path for v in still.training_model.trainable_variables}
    assert {v.path for v in free.training_model.trainable_variables} - trained == {
        "first/kernel", "first/bias", "norm/gamma", "norm/beta",
    }  # fmt: skip
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    for trainable, moves in ((still, False), (free, True)):
        norm = trainable.training_model.get_layer("norm")
        trainable.training_model(images, training=True)
        assert np.any(np.array(norm.moving_mean)) == moves


@checks("optimizer.freeze_batch_norm")
def test_normalisation_of_the_encoder_can_be_frozen_alone(monkeypatch):
    """Scale, offset and statistics of pretrained layers; kernels, and other layers, are trained."""
    pretend_pretrained(monkeypatch, "first/", "norm/")
    frozen = trainee_of(encoder_weights="imagenet", optimizer={"freeze_batch_norm": True})
    free = trainee_of(encoder_weights="imagenet")
    trained = {v.path for v in frozen.training_model.trainable_variables}
    everything = {v.path for v in free.training_model.trainable_variables}
    assert everything - trained == {"norm/gamma", "norm/beta"}
    norm = frozen.training_model.get_layer("norm")
    norm.moving_mean.assign(norm.moving_mean + 0.25)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    given = np.random.default_rng(1).normal(0, 3, (2, 4, 4, 8)).astype(np.float32)
    frozen.training_model(images, training=True)
    assert np.unique(np.array(norm.moving_mean)).tolist() == [0.25]
    # By its statistics, as in inference, not by the batch's.
    found = np.array(norm(given, training=True))
    np.testing.assert_allclose(found, (given - 0.25) / np.sqrt(1 + norm.epsilon), atol=1e-5)
    # Without pretrained weights nothing is frozen.
    other = trainee_of(optimizer={"freeze_batch_norm": True})
    assert {v.path for v in other.training_model.trainable_variables} == everything


def test_steps_and_their_schedule_are_given_together():
    for wrong in ({"schedule": "step"}, {"step_epochs": 3}):
        with pytest.raises(ValidationError, match="schedule = step needs step_epochs"):
            recipe_of(optimizer=wrong)
