"""Object relations are those of a plain loop, and R-FCN and they run in OpenVINO."""

import keras
import numpy as np
import pytest
from keras import ops

from lungbox import architecture
from lungbox.architecture.detection.relation import ObjectRelation
from lungbox.engines.openvino import from_tensorflow, openvino
from tests.architecture.detection.drawn import random_boxes
from tests.architecture.tester import chests
from tests.small_detectors import registered_detectors

HEADS, KEY, WIDTH = 2, 3, 6


@pytest.fixture
def drawn():
    """Two images of five boxes, features, and a module whose weights are drawn."""
    random = np.random.default_rng(6)
    features = random.normal(size=(2, 5, WIDTH)).astype(np.float32)
    boxes = random_boxes(random, (2, 5))
    module = ObjectRelation(HEADS, KEY)
    module(features, boxes)
    for variable in module.weights:
        variable.assign(random.normal(0, 0.4, variable.shape))
    return module, features, boxes


def dense(layer, x):
    kernel, bias = (ops.convert_to_numpy(v).astype(float) for v in (layer.kernel, layer.bias))
    return x @ kernel + bias


def plain_geometry(n, m) -> np.ndarray:
    """The 64 sines and cosines of how box m lies to box n, as the paper has it."""
    width, height = m[2] - m[0], m[3] - m[1]
    across = abs((n[0] + n[2]) / 2 - (m[0] + m[2]) / 2) / width
    down = abs((n[1] + n[3]) / 2 - (m[1] + m[3]) / 2) / height
    numbers = [max(across, 1e-3), max(down, 1e-3), (n[2] - n[0]) / width, (n[3] - n[1]) / height]
    waves = []
    for value in np.log(numbers):
        angles = [100 * value / 1000 ** (k / 8) for k in range(8)]
        waves += [*np.sin(angles), *np.cos(angles)]
    return np.array(waves)


def plain_relation(module, features, boxes) -> np.ndarray:
    """Of one image."""
    queries, keys, values = (
        dense(layer, features) for layer in (module.queries, module.keys, module.values)
    )
    found = features.copy()
    share = WIDTH // HEADS
    for n in range(len(boxes)):
        for head in range(HEADS):
            own = slice(head * KEY, (head + 1) * KEY)
            part = slice(head * share, (head + 1) * share)
            weights = []
            for m in range(len(boxes)):
                lie = max(dense(module.geometry, plain_geometry(boxes[n], boxes[m]))[head], 1e-6)
                weights.append(lie * np.exp(keys[m, own] @ queries[n, own] / KEY**0.5))
            found[n, part] += np.average(values[:, part], axis=0, weights=weights)
    return found


def test_it_is_that_of_a_plain_loop(drawn):
    module, features, boxes = drawn
    found = ops.convert_to_numpy(module(features, boxes))
    expected = [
        plain_relation(module, *pair)
        for pair in zip(features.astype(float), boxes.astype(float), strict=True)
    ]
    # The angles are up to several hundred radians, which float32 has to 1e-5.
    assert found == pytest.approx(np.array(expected), abs=2e-3)
    assert np.abs(found - features).max() > 0.1


def test_only_how_boxes_lie_to_each_other_counts(drawn):
    """Not where they are, how large all are, nor in which order they come."""
    module, features, boxes = drawn
    found = ops.convert_to_numpy(module(features, boxes))
    moved = (boxes * 0.5 + 0.25).astype(np.float32)
    assert ops.convert_to_numpy(module(features, moved)) == pytest.approx(found, abs=2e-3)
    order = np.array([3, 0, 4, 1, 2])
    swapped = ops.convert_to_numpy(module(features[:, order], boxes[:, order]))
    assert swapped == pytest.approx(found[:, order], abs=1e-4)
    wider = boxes.copy()
    wider[:, 0, 2] += 0.1
    assert np.abs(ops.convert_to_numpy(module(features, wider)) - found).max() > 0.01


def test_features_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="6 features do not divide by 4 heads"):
        ObjectRelation(4)(np.zeros((1, 2, 6), np.float32), np.zeros((1, 2, 4), np.float32))


@pytest.mark.parametrize("name", ["small_related", "small_rfcn"])
def test_openvino_equals_keras(name):
    """The raw outputs of the second stage, before any order is decided by rounding."""
    import tensorflow as tf

    keras.utils.set_random_seed(3)
    with registered_detectors():
        whole = architecture.build(name, 64, [f"finding {number}" for number in range(3)])
    model = keras.Model(whole.input, whole.get_layer("rois").output)
    images = chests(64, 2)
    expected = model.predict(images, verbose=0)

    @tf.function(input_signature=[tf.TensorSpec((None, 64, 64, 1), tf.float32)])
    def forward(inputs):
        return model(inputs, training=False)

    compiled = openvino.Core().compile_model(
        from_tensorflow(forward), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    (found,) = compiled(images).values()
    assert found.shape == expected.shape == (2, 16, 4 + 4 + 4)
    assert found == pytest.approx(expected, abs=1e-4)
    assert np.ptp(expected[..., 4:8]) > 1e-3
