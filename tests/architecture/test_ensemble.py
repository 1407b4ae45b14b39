"""Averaging networks: shares, sizes, and members without an image head."""

import cv2
import keras
import numpy as np
import pytest
from safetensors import safe_open

from lungbox.architecture.ensemble import AreaAverages, average
from lungbox.architecture.heads import top_k_mean
from lungbox.weights.formats.safetensors import save_weights


def constant(side, stride, opacity, image=None, name="constant"):
    """A network whose answers do not depend on what it sees."""
    inputs = keras.Input((side, side, 1))
    small = keras.layers.AveragePooling2D(stride)(inputs)
    pixels = keras.layers.Rescaling(0.0, offset=opacity)(small)
    rest = keras.layers.Rescaling(0.0, offset=1 - opacity)(small)
    outputs = {"mask": keras.layers.Concatenate()([rest, pixels])}
    if image is not None:
        pooled = keras.layers.GlobalAveragePooling2D()(inputs)
        outputs["image"] = keras.layers.Rescaling(0.0, offset=image)(pooled)
    return keras.Model(inputs, outputs, name=name)


def run(model, side):
    images = np.random.default_rng(0).random((2, side, side, 1)).astype(np.float32) * 255
    outputs = model(images, training=False)
    return {key: keras.ops.convert_to_numpy(values) for key, values in outputs.items()}


def test_masks_and_scores_are_weighted_means():
    members = [(constant(32, 4, 0.2, 0.4), 0.25), (constant(32, 4, 0.6, 0.8), 0.75)]
    outputs = run(average(members), 32)
    assert outputs["mask"].shape == (2, 8, 8, 2)
    assert outputs["mask"][..., 1] == pytest.approx(0.25 * 0.2 + 0.75 * 0.6)
    assert outputs["mask"].sum(axis=-1) == pytest.approx(1)
    assert outputs["image"] == pytest.approx(0.25 * 0.4 + 0.75 * 0.8)


def test_members_of_other_sizes_are_brought_to_the_largest():
    members = [(constant(64, 4, 0.2, 0.4), 0.5), (constant(32, 1, 0.6, 0.8), 0.5)]
    model = average(members)
    assert model.input_shape == (None, 64, 64, 1)
    outputs = run(model, 64)
    assert outputs["mask"].shape == (2, 32, 32, 2)
    assert outputs["mask"][..., 1] == pytest.approx(0.4)


@pytest.mark.parametrize(("old", "new"), [(96, 64), (256, 160), (224, 128), (97, 32)])
def test_smaller_images_are_area_averages(old, new):
    """As OpenCV has them, in the same way as radiographs were made smaller for training."""
    images = np.random.default_rng(old).integers(0, 256, (2, old, old)).astype(np.float32)
    ours = keras.ops.convert_to_numpy(AreaAverages(new)(images[..., None]))[..., 0]
    theirs = np.stack([cv2.resize(x, (new, new), interpolation=cv2.INTER_AREA) for x in images])
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_a_member_without_image_head_gives_its_most_certain_pixels():
    outputs = run(average([(constant(32, 1, 0.3), 1.0)]), 32)
    assert outputs["image"] == pytest.approx(0.3)


def test_the_most_certain_pixels_are_half_a_percent():
    inputs = keras.Input((40, 40, 1))
    opacity = keras.layers.Rescaling(1 / 255)(inputs)
    rest = keras.layers.Rescaling(-1.0, offset=1.0)(opacity)
    member = keras.Model(inputs, {"mask": keras.layers.Concatenate()([rest, opacity])})
    images = np.random.default_rng(1).random((1, 40, 40, 1)).astype(np.float32) * 255
    score = keras.ops.convert_to_numpy(average([(member, 1.0)])(images)["image"])[0, 0]
    assert score == pytest.approx(np.sort(images.ravel())[-8:].mean() / 255, abs=1e-6)


def test_the_highest_pixels_are_of_any_class():
    """0.5 % of 30 x 20 pixels are three; the background does not count."""
    mask = np.random.default_rng(2).random((2, 30, 20, 4)).astype(np.float32)
    found = keras.ops.convert_to_numpy(top_k_mean(mask, "image"))
    highest = np.sort(mask[..., 1:].max(axis=-1).reshape(2, -1))[:, -3:]
    np.testing.assert_allclose(found[:, 0], highest.mean(axis=-1), atol=1e-6)


def test_one_network_may_be_a_member_twice():
    members = [(constant(32, 1, 0.2, 0.1), 0.5), (constant(32, 1, 0.4, 0.3), 0.5)]
    assert run(average(members), 32)["mask"][..., 1] == pytest.approx(0.3)


def test_the_callers_network_keeps_its_name(tmp_path):
    """It is written into weight files; and one network may have two parts in an ensemble."""
    member = constant(32, 4, 0.2, 0.4, name="mine")
    twice = average([(member, 0.5), (member, 0.5)])
    average([(member, 1.0)])
    assert member.name == "mine"
    assert run(twice, 32)["mask"][..., 1] == pytest.approx(0.2)
    save_weights(member, tmp_path / "weights.safetensors")
    with safe_open(tmp_path / "weights.safetensors", framework="numpy") as file:
        assert file.metadata() == {"architecture": "mine"}


def test_an_ensemble_has_its_members_own_weights():
    """Trained on, a member changes in the ensemble: validation scores the weights of the moment."""
    inputs = keras.Input((32, 32, 1))
    layer = keras.layers.Conv2D(2, 1, activation="sigmoid")
    member = keras.Model(inputs, {"mask": layer(inputs)})
    ensemble = average([(member, 1.0)])
    layer.kernel.assign(np.zeros((1, 1, 1, 2)))
    layer.bias.assign([0.0, np.log(3)])
    assert run(ensemble, 32)["mask"][..., 1] == pytest.approx(0.75)
