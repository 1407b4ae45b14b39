"""EfficientNet-Lite with its published weights is the published classifier."""

import cv2
import keras
import numpy as np
import pytest
from skimage import data

from lungbox.architecture.backbones.efficientnet_lite import VARIANTS, efficientnet_lite
from lungbox.architecture.cost import macs
from lungbox.weights.formats.imagenet import efficientnet_lite_file, load_efficientnet_lite
from lungbox.weights.formats.torch_legacy import read_state_dict

SIDE = 224
# ImageNet's own numbers.
CATS = {281, 282, 285}  # tabby, tiger cat, Egyptian cat
ESPRESSO = {967}
SPACECRAFT = {540, 657, 744, 812}  # drilling platform, missile, projectile, space shuttle


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def published(variant):
    return read_state_dict(efficientnet_lite_file(variant))


@pytest.fixture(scope="module")
def classifier(variant, published):
    inputs = keras.Input((SIDE, SIDE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(efficientnet_lite(inputs, variant).pooled)
    head = keras.layers.Dense(1000, activation="softmax")
    model = keras.Model(inputs, head(pooled))
    load_efficientnet_lite(model, variant)
    head.set_weights([published["_fc.weight"].T, published["_fc.bias"]])
    return model


def photograph(name: str) -> np.ndarray:
    image = getattr(data, name)()
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    return cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "classes", "least"),
    [("chelsea", CATS, 0.7), ("coffee", ESPRESSO, 0.8), ("rocket", SPACECRAFT, 0.25)],
)
def test_natural_images_are_classified_sensibly(classifier, name, classes, least):
    probabilities = keras.ops.convert_to_numpy(classifier(photograph(name)[None]))[0]
    assert probabilities.argmax() in classes
    assert probabilities[list(classes)].sum() > least


def test_every_published_tensor_is_used(variant, published):
    inputs = keras.Input((SIDE, SIDE, 3))
    features = efficientnet_lite(inputs, variant)
    model = keras.Model(inputs, features.pooled)
    filled = load_efficientnet_lite(model, variant)
    assert filled == {variable.path for variable in model.weights}
    unused = [name for name in published if not name.endswith("num_batches_tracked")]
    assert len(unused) == len(filled) + 2  # the classifier's weight and bias


def test_the_gray_stem_sees_what_three_equal_channels_show():
    """Summing the stem's kernel over colours computes the same from one channel."""
    gray = photograph("chelsea").mean(axis=-1, keepdims=True)[None]
    outputs = []
    for channels in (1, 3):
        inputs = keras.Input((SIDE, SIDE, channels))
        model = keras.Model(inputs, efficientnet_lite(inputs).bridge)
        load_efficientnet_lite(model)
        outputs.append(keras.ops.convert_to_numpy(model(np.repeat(gray, channels, axis=-1))))
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-3


def test_strides_and_widths():
    inputs = keras.Input((SIDE, SIDE, 1))
    features = efficientnet_lite(inputs)
    shapes = [(SIDE // skip.shape[1], skip.shape[-1]) for skip in features.skips]
    assert shapes == [(2, 16), (4, 24), (8, 40), (16, 112)]
    assert features.bridge.shape[1:] == (7, 7, 320)
    assert features.pooled.shape[1:] == (7, 7, 1280)


@pytest.mark.parametrize(
    ("name", "millions", "multiply_adds", "side"),
    # https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    [("Lite0", 4.7, 407e6, 224), ("Lite1", 5.4, 631e6, 240), ("Lite2", 6.1, 899e6, 260)],
)
def test_size_and_cost_are_the_published_ones(name, millions, multiply_adds, side):
    inputs = keras.Input((side, side, 3))
    pooled = efficientnet_lite(inputs, f"EfficientNet-{name}").pooled
    model = keras.Model(
        inputs, keras.layers.Dense(1000)(keras.layers.GlobalAveragePooling2D()(pooled))
    )
    assert model.count_params() / 1e6 == pytest.approx(millions, abs=0.08)
    # What they count beside these layers is not said.
    assert macs(model) == pytest.approx(multiply_adds, rel=0.06)
