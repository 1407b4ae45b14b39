"""EfficientNet-Lite with its published weights is the published classifier."""

import cv2
import keras
import numpy as np
import pytest
from skimage import data

from lungbox.architecture.backbones.efficientnet_lite import VARIANTS, efficientnet_lite
from lungbox.architecture.backbones.keras_applications import Taps, application
from lungbox.architecture.backbones.se_resnext import se_resnext101
from lungbox.architecture.cost import macs
from lungbox.weights.formats.imagenet import (
    _fill_from_network,
    efficientnet_lite_file,
    load_efficientnet_lite,
)
from lungbox.weights.formats.torch_legacy import read_state_dict
from tests.architecture.tester import undrawn_kernels

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


def test_se_resnext_has_the_published_size():
    """48.96 million trainable parameters with ImageNet's classifier of 2,048 features (the table of
    Cadene's pretrained-models.pytorch), of which the network here leaves out the classifier."""
    with undrawn_kernels():
        inputs = keras.Input((64, 64, 1))
        features = se_resnext101(inputs)
        model = keras.Model(inputs, features.pooled)
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trainable + 2048 * 1000 + 1000 == 48_955_416
    assert [tuple(skip.shape[1:]) for skip in features.skips] == [
        (32, 32, 64), (16, 16, 256), (8, 8, 512), (4, 4, 1024),
    ]  # fmt: skip
    assert features.bridge.shape == (None, 2, 2, 2048)
    grouped = [v for v in model.trainable_variables if v.path.endswith("_grouped_conv/kernel")]
    assert len(grouped) == 3 + 4 + 23 + 3
    assert grouped[0].shape == (3, 3, 4, 128)  # 32 groups of 4 channels


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["EfficientNetB4", "Xception"])
def test_encoders_that_are_copied_compute_what_the_published_ones_do(encoder):
    """With weights loaded by layer, on a size that is no multiple of all strides, whatever number
    Keras' own layers have by then."""
    keras.utils.set_random_seed(0)
    keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization()  # two more are counted
    build = getattr(keras.applications, encoder)
    published = build(include_top=False, weights=None)
    last = "top_activation" if encoder == "EfficientNetB4" else "block14_sepconv2_act"
    inputs = keras.Input((96, 96, 1))
    ours = keras.Model(inputs, application(encoder, inputs, Taps((), last)).pooled)
    filled = _fill_from_network(ours, published)
    unfilled = {v.path.partition("/")[0] for v in ours.weights if v.path not in filled}
    assert unfilled <= {"encoder_scaling"}
    gray = np.random.default_rng(0).uniform(0, 255, (1, 96, 96, 1)).astype(np.float32)
    scaled = keras.Model(inputs, ours.get_layer("encoder_scaling").output)(gray)
    if encoder == "EfficientNetB4":
        rest = keras.Model(published.get_layer("stem_conv_pad").input, published.output)
        expected = rest(scaled)
    else:
        expected = published(scaled)
    found = keras.ops.convert_to_numpy(ours(gray))
    expected = keras.ops.convert_to_numpy(expected)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
