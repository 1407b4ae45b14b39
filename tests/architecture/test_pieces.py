"""What attention, decoders and heads compute, worked out beside them in numpy."""

from functools import partial
from zlib import crc32

import cv2
import keras
import numpy as np
import pytest
from scipy.ndimage import correlate

from lungbox import architecture
from lungbox.architecture import attention, decoders, heads
from lungbox.architecture.backbones.efficientnet_lite import Features
from lungbox.datasets.phantom import draw
from tests.architecture.tester import assert_every_weight_learns, chests

HEIGHT, WIDTH = 6, 10


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def run(inputs, output, *values):
    model = keras.Model(inputs, output)
    return model, keras.ops.convert_to_numpy(model(*values, training=False))


def test_spatial_attention_weighs_positions():
    """By a 7 x 7 convolution of the mean and the maximum over channels, in this order."""
    x = np.random.default_rng(0).normal(0, 1, (1, HEIGHT, WIDTH, 5)).astype(np.float32)
    inputs = keras.Input((HEIGHT, WIDTH, 5))
    model, found = run(inputs, attention.spatial(inputs, "here"), x)
    kernel, bias = model.get_layer("here_gate").get_weights()
    assert kernel.shape == (7, 7, 2, 1)
    maps = (x[0].mean(axis=-1), x[0].max(axis=-1))
    scores = sum(correlate(m, kernel[..., i, 0], mode="constant") for i, m in enumerate(maps))
    np.testing.assert_allclose(found[0], x[0] * sigmoid(scores + bias)[..., None], atol=1e-5)


def test_the_image_score_sees_features_the_most_certain_region_and_the_extent():
    random = np.random.default_rng(1)
    pooled = random.normal(0, 1, (2, 3, 5, 4)).astype(np.float32)
    mask = random.uniform(0, 1, (2, 8, 12, 2)).astype(np.float32)
    inputs = [keras.Input(values.shape[1:]) for values in (pooled, mask)]
    model, found = run(inputs, heads.image_score(*inputs), [pooled, mask])
    kernel, bias = model.get_layer("image").get_weights()
    regions = mask.reshape(2, 2, 4, 3, 4, 2).mean(axis=(2, 4))
    seen = [pooled.mean(axis=(1, 2)), regions.max(axis=(1, 2)), mask.mean(axis=(1, 2))]
    expected = sigmoid(np.concatenate(seen, axis=-1) @ kernel + bias)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_masks_channels(activation, classes):
    x = np.random.default_rng(2).normal(0, 1, (1, HEIGHT, WIDTH, 3)).astype(np.float32)
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    model, found = run(inputs, heads.mask(inputs, activation, classes), x)
    assert found.shape == (1, HEIGHT, WIDTH, 1 + classes)
    kernel, bias = model.get_layer("mask_logits").get_weights()
    logits = x @ kernel[0, 0] + bias
    if activation == "softmax":
        expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    else:
        expected = sigmoid(logits)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 14])
def test_the_classes_and_the_image_score(count):
    """One class is the image score; of three the last is; of more it is a sigmoid of its own."""
    pooled = np.random.default_rng(4).normal(0, 1, (2, 3, 5, 4)).astype(np.float32)
    inputs = keras.Input(pooled.shape[1:])
    model = keras.Model(inputs, heads.classes(inputs, count))
    found = {name: keras.ops.convert_to_numpy(y) for name, y in model(pooled).items()}
    means = pooled.mean(axis=(1, 2))
    kernel, bias = model.get_layer("classes_logits").get_weights()
    logits = means @ kernel + bias
    if count == 3:
        expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    else:
        expected = sigmoid(logits)
    np.testing.assert_allclose(found["classes"], expected, atol=1e-5)
    if count == 14:
        kernel, bias = model.get_layer("image").get_weights()
        np.testing.assert_allclose(found["image"], sigmoid(means @ kernel + bias), atol=1e-5)
    else:
        np.testing.assert_array_equal(found["image"], found["classes"][:, count - 1 :])


def test_the_light_decoder_joins_the_deepest_skip_first():
    """Each step makes the map larger, linearly between pixels, and puts the encoder's behind it."""
    random = np.random.default_rng(3)
    shapes = [(8 * HEIGHT, 8 * WIDTH, 2), (4 * HEIGHT, 4 * WIDTH, 3), (2 * HEIGHT, 2 * WIDTH, 4)]
    shallow, middle, deep, bridge = (keras.Input(s) for s in (*shapes, (HEIGHT, WIDTH, 5)))
    features = Features((shallow, middle, deep), bridge, pooled=bridge)
    decoded = decoders.light_unet(features, widths=(7, 6))
    assert decoded.shape[1:] == (4 * HEIGHT, 4 * WIDTH, 6)
    inputs = [shallow, middle, deep, bridge]
    values = [random.normal(0, 1, (1, *x.shape[1:])).astype(np.float32) for x in inputs]
    model = keras.Model(inputs, decoded)
    names = ("decoder1_join", "decoder1b_mix_relu", "decoder2_join")
    seen = keras.Model(inputs, [model.get_layer(name).output for name in names])(values)
    first, between, second = (keras.ops.convert_to_numpy(x)[0] for x in seen)
    for joined, below, skip in ((first, values[3][0], values[2]), (second, between, values[1])):
        channels, (rows, columns) = below.shape[-1], joined.shape[:2]
        larger = cv2.resize(below, (columns, rows), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(joined[..., :channels], larger, atol=1e-5)
        assert np.array_equal(joined[..., channels:], skip[0])


def unet_with(kind):
    return partial(decoders.unet, widths=(6, 5, 4, 3), attention=kind)


@pytest.mark.parametrize(
    ("decode", "strides"),
    [
        (partial(decoders.light_unet, widths=(7, 6, 5)), (2, 4, 8, 16)),
        (unet_with(None), (1, 2, 4, 8)),
        (unet_with(attention.spatial), (1, 2, 4, 8)),
        (unet_with(attention.squeeze_excitation), (1, 2, 4, 8)),
        (partial(decoders.aspp, filters=6), (4,)),
    ],
    ids=["light", "plain", "spatial attention", "squeeze-and-excitation", "pyramid"],
)
def test_every_weight_of_a_decoder_learns(decode, strides):
    """Behind an encoder of one convolution for each skip; the image head's, too."""
    inputs = keras.Input((64, 64, 1))
    x, scaled, stride, skips = None, keras.layers.Rescaling(1 / 255)(inputs), 1, []
    for deeper in (*strides, 4 * strides[-1] if len(strides) == 1 else 2 * strides[-1]):
        x = keras.layers.Conv2D(8, 3, deeper // stride, "same")(scaled if x is None else x)
        x, stride = keras.layers.ReLU()(keras.layers.BatchNormalization()(x)), deeper
        skips.append(x)
    *skips, bridge = skips
    mask = heads.mask(decode(Features(tuple(skips), bridge, pooled=bridge)))
    outputs = {"mask": mask, "image": heads.image_score(bridge, mask, dropout=0.0)}
    assert_every_weight_learns(keras.Model(inputs, outputs), chests(64))


def test_branches_are_dropped_ever_more_often_with_depth():
    """From 0 at the first to nearly the rate at the last of 16; none where it is 0."""
    model = architecture.build("unet_lite0", 64, drop_connect=0.32, dropout=0.25)
    rates = [x.rate for x in model.layers if x.name.startswith("block") and "drop" in x.name]
    # Blocks that keep shape and width; the number of each among all 16.
    assert rates == pytest.approx([0.02 * index for index in (2, 4, 6, 7, 9, 10, 12, 13, 14)])
    assert model.get_layer("image_dropout").rate == 0.25


# Of networks as `settled` makes them: opacity at four places of two images, and the image scores.
COMPUTED = {
    "unet_lite0": (0.50937, 0.44128, 0.71487, 0.68204, 0.81627, 0.82594),
    "unet_vgg19_attention": (0.26136, 0.9201, 0.00028, 0.12022, 0.05809, 0.05274),
}


def settled(name: str) -> keras.Model:
    """The network with weights that follow from their names, so that they are the same wherever
    and in whatever order it is built."""
    model = architecture.build(name, 64)
    for variable in model.weights:
        random, shape = np.random.default_rng(crc32(variable.path.encode())), variable.shape
        kind = variable.path.rpartition("/")[2]
        noise = random.standard_normal(shape).astype(np.float32)
        if kind == "kernel":
            depthwise = "depthwise" in variable.path
            fan_in = np.prod(shape[:2] if depthwise else shape[:-1])
            # Small before the mask, so that no probability is 0 or 1.
            gain = 0.1 if variable.path.startswith("mask") else 1.6
            variable.assign(noise * np.sqrt(gain / fan_in))
        else:
            variable.assign(0.1 * noise + (kind in ("gamma", "moving_variance")))
    return model


@pytest.mark.parametrize("name", COMPUTED)
def test_a_network_computes_what_it_did(name):
    """Shape and range say nothing of a skip in the wrong order or another way of enlarging."""
    random = np.random.default_rng(4)
    images = np.stack([draw(64, number, random).pixels for number in range(2)])[..., None]
    outputs = settled(name)(images.astype(np.float32), training=False)
    mask, score = (keras.ops.convert_to_numpy(outputs[key]) for key in ("mask", "image"))
    factor = mask.shape[1] // 16
    places = [(0, 3, 5), (0, 9, 12), (1, 6, 2), (1, 14, 8)]
    found = [float(mask[i, factor * r, factor * c, 1]) for i, r, c in places]
    found += score[:, 0].tolist()
    assert found == pytest.approx(COMPUTED[name], abs=3e-4)
