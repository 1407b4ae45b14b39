"""Suppression inside the graph is exact; proposals and decoded boxes are those of numpy."""

import keras
import numpy as np
import pytest
from keras import ops

from lungbox.architecture.detection.anchors import Anchors
from lungbox.architecture.detection.boxes import decode
from lungbox.architecture.detection.decode import Decode
from lungbox.architecture.detection.proposals import Proposals, suppress
from lungbox.boxes.suppression import non_maximum_suppression
from tests.architecture.detection.drawn import random_boxes

CASES, COUNT = 1000, 40


def crowded(random: np.random.Generator) -> np.ndarray:
    """`(CASES, COUNT, 4)` boxes around few centres: most are suppressed, in chains."""
    around = random_boxes(random, (CASES, 4))[:, random.integers(0, 4, COUNT)]
    moved = around + random.normal(0, 0.04, (CASES, COUNT, 4))
    return np.concatenate([moved[..., :2], np.maximum(moved[..., 2:], moved[..., :2] + 0.01)], -1)


def suppressed(boxes: np.ndarray, max_iou: float) -> np.ndarray:
    """In a compiled graph, as inside of a network, on any backend."""
    inputs = keras.Input(boxes.shape[1:])
    outputs = keras.layers.Lambda(lambda x: suppress(x, max_iou), output_shape=boxes.shape[1:2])
    return keras.Model(inputs, outputs(inputs)).predict(boxes, verbose=0, batch_size=len(boxes))


@pytest.mark.parametrize("max_iou", [0.3, 0.7])
def test_suppression_is_exact_on_a_thousand_cases(max_iou):
    boxes = crowded(np.random.default_rng(1)).astype(np.float32)
    found = suppressed(boxes, max_iou)
    scores = np.linspace(1, 0, COUNT)
    counts = []
    for case, kept in zip(boxes, found, strict=True):
        expected = non_maximum_suppression(case, scores, max_iou)
        assert np.flatnonzero(kept).tolist() == sorted(expected.tolist())
        counts.append(len(expected))
    assert min(counts) < 0.6 * COUNT


def test_the_longest_chain():
    """Each box overlaps only the next by more: every other one stays, and the last is decided after
    as many rounds as there are boxes."""
    left = np.arange(20) * 0.4
    chain = np.stack([left, left * 0, left + 1, left * 0 + 1], axis=-1)[None].astype(np.float32)
    assert suppressed(chain, 0.3)[0].tolist() == [1, 0] * 10


@pytest.mark.slow
def test_suppression_on_the_other_backend(other_backend):
    boxes = crowded(np.random.default_rng(2))[:100].astype(np.float32)
    assert np.array_equal(suppressed(boxes, 0.5), other_backend.call(suppressed, boxes, 0.5))


def raw(classes: int) -> np.ndarray:
    random = np.random.default_rng(3)
    anchors = np.broadcast_to(Anchors(2.0, 1, (1.0,)).boxes(64), (3, 86, 4))
    predicted = random.normal(0, 1, (3, 86, classes + 4)) * ([2] * classes + [0.4] * 4)
    return np.concatenate([anchors, predicted], axis=-1).astype(np.float32)


def decoded(output: np.ndarray) -> np.ndarray:
    boxes = ops.convert_to_numpy(decode(output[..., :4], output[..., -4:]))
    return boxes.clip(0, 1)


def test_proposals_are_the_best_boxes_of_numpy():
    outputs = raw(1)
    layer = Proposals(count=10, candidates=40, max_iou=0.5)
    found = ops.convert_to_numpy(layer(outputs))
    assert found.shape == (3, 10, 4) == layer.compute_output_shape(outputs.shape)
    for output, proposals in zip(outputs, found, strict=True):
        best = np.argsort(-output[:, 4], kind="stable")[:40]
        boxes = decoded(output)[best]
        kept = non_maximum_suppression(boxes, output[best, 4], 0.5)
        assert len(kept) >= 10
        assert proposals == pytest.approx(boxes[kept[:10]], abs=1e-6)


def test_suppressed_boxes_fill_up_the_proposals():
    outputs = raw(1)
    found = ops.convert_to_numpy(Proposals(count=40, candidates=40, max_iou=0.1)(outputs))
    for output, proposals in zip(outputs, found, strict=True):
        best = np.argsort(-output[:, 4], kind="stable")[:40]
        boxes = decoded(output)[best]
        kept = sorted(non_maximum_suppression(boxes, output[best, 4], 0.1).tolist())
        assert 3 < len(kept) < 30
        others = [row for row in range(40) if row not in kept]
        assert proposals == pytest.approx(boxes[kept + others], abs=1e-6)
    fewer = Proposals(count=100)(outputs)
    assert fewer.shape == (3, 86, 4)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_decoding_is_that_of_numpy(activation):
    """The boxes of the highest score of any class; the background is none."""
    outputs = raw(3)
    logits = outputs[..., 4:-4].astype(float)
    scores = 1 / (1 + np.exp(-logits))
    if activation == "softmax":
        scores = (np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True))[..., 1:]
    layer = Decode(top=20, activation=activation)
    found = [ops.convert_to_numpy(x) for x in layer(outputs)]
    assert tuple(x.shape for x in found) == layer.compute_output_shape(outputs.shape)
    for image, (boxes, of_boxes) in enumerate(zip(*found, strict=True)):
        rows = np.argsort(-scores[image].max(axis=-1), kind="stable")[:20]
        assert of_boxes == pytest.approx(scores[image][rows], abs=1e-5)
        assert boxes == pytest.approx(decoded(outputs[image])[rows], abs=1e-5)
    assert (found[0] == 0).any()
    assert Decode.from_config(layer.get_config()).get_config() == layer.get_config()
