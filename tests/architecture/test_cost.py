"""Multiply-accumulates: counted by hand, and as they are published."""

from itertools import pairwise

import keras
import pytest
from keras import layers

from lungbox import architecture
from lungbox.architecture.backbones import efficientnet_lite
from lungbox.architecture.cost import gflops, layer_macs, macs
from lungbox.architecture.ensemble import average

# 8 x 6 pixels, 4 channels, one layer; what a pencil makes of it.
LAYERS = [
    (layers.Conv2D(5, 3, padding="same"), 8 * 6 * 3 * 3 * 4 * 5),
    (layers.Conv2D(5, 3, padding="valid"), 6 * 4 * 3 * 3 * 4 * 5),
    (layers.Conv2D(5, 3, strides=2, padding="same"), 4 * 3 * 3 * 3 * 4 * 5),
    (layers.Conv2D(5, (1, 3), dilation_rate=2, padding="same"), 8 * 6 * 1 * 3 * 4 * 5),
    (layers.Conv2D(6, 3, groups=2, padding="same"), 8 * 6 * 3 * 3 * (4 // 2) * 6),
    (layers.DepthwiseConv2D(3, padding="same"), 8 * 6 * 3 * 3 * 4),
    (layers.DepthwiseConv2D(3, strides=2, depth_multiplier=3), 3 * 2 * 3 * 3 * 4 * 3),
    (
        layers.SeparableConv2D(5, 3, strides=2, depth_multiplier=2, padding="same"),
        4 * 3 * (3 * 3 * 4 * 2 + 4 * 2 * 5),
    ),
    (layers.Conv2DTranspose(5, 2, strides=2), 8 * 6 * 2 * 2 * 4 * 5),
    (layers.Conv2DTranspose(5, 3, padding="same"), 8 * 6 * 3 * 3 * 4 * 5),
    (layers.Dense(7), 8 * 6 * 4 * 7),
    (layers.BatchNormalization(), 0),
    (layers.UpSampling2D(2), 0),
]


@pytest.mark.parametrize(("layer", "expected"), LAYERS)
def test_one_layer(layer, expected):
    inputs = keras.Input((8, 6, 4))
    assert layer_macs(layer, inputs, layer(inputs)) == expected


def test_a_small_network_by_hand():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(inputs)
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
    model = keras.Model(inputs, layers.Dense(10)(x))
    assert macs(model) == 8 * 8 * 27 * 8 + 8 * 10
    assert gflops(model) == 2 * (8 * 8 * 27 * 8 + 8 * 10) / 1e9


def test_a_shared_layer_is_counted_each_time_it_runs():
    """On 8 x 6 and on 4 x 3 pixels; in a model of the second call alone, once."""
    shared = layers.Conv2D(5, 3, padding="same")
    large, small = keras.Input((8, 6, 4)), keras.Input((4, 3, 4))
    first, second = shared(large), shared(small)
    assert macs(keras.Model([large, small], [first, second])) == (48 + 12) * 9 * 4 * 5
    assert macs(keras.Model(small, second)) == 12 * 9 * 4 * 5


def test_an_ensemble_costs_what_its_members_cost():
    small, large = architecture.build("unet_lite0", 64), architecture.build("unet_lite0", 128)
    alone = macs(small) + macs(large)
    assert macs(average([(small, 0.5), (large, 0.5)])) == alone


# Multiply-accumulates of the classifiers at 224 x 224, in 1e9. torchvision publishes three decimals
# (`_ops` in the metadata of its weights) and counts what we count. Its ResNet152 (11.514) strides
# in the 3x3 convolutions; Keras', as He et al. (CVPR 2016) who give 11.3, in the 1x1 before them.
# Last, the widths of the classifier's dense layers, which are not built here: VGG19's have 124
# million weights.
PUBLISHED = {
    "DenseNet121": (2.834, 0.0005, (1024, 1000)),
    "EfficientNetB0": (0.386, 0.0005, (1280, 1000)),
    "ResNet152": (11.3, 0.05, (2048, 1000)),
    "VGG19": (19.632, 0.0005, (7 * 7 * 512, 4096, 4096, 1000)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name):
    published, rounding, widths = PUBLISHED[name]
    known = getattr(keras.applications, name)
    body = known(include_top=False, weights=None, input_shape=(224, 224, 3))
    classifier = sum(before * after for before, after in pairwise(widths))
    assert (macs(body) + classifier) / 1e9 == pytest.approx(published, abs=rounding)


def test_efficientnet_lite0():
    """It is EfficientNet-B0 without squeeze-and-excitation.

    Its authors give 407e6, and for B0 390e6; what they count beside these layers is not said.
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    """
    inputs = keras.Input((224, 224, 3))
    pooled = layers.GlobalAveragePooling2D()(efficientnet_lite.efficientnet_lite(inputs).pooled)
    lite0 = keras.Model(inputs, layers.Dense(1000)(pooled))
    b0 = keras.applications.EfficientNetB0(weights=None)
    squeezing = sum(
        layer_macs(layer, layer.input, layer.output) for layer in b0.layers if "_se_" in layer.name
    )
    assert macs(lite0) == macs(b0) - squeezing == 385_187_552
    assert macs(lite0) == pytest.approx(407e6, rel=0.06)
