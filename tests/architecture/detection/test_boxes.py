"""Box geometry in `keras.ops` is that of numpy; deltas round-trip."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from lungbox.architecture.detection import boxes as geometry
from lungbox.architecture.detection.anchors import Anchors, WithAnchors
from lungbox.boxes import geometry as numpy_geometry
from tests.architecture.detection.drawn import random_boxes


def test_iou_is_that_of_numpy():
    """Boxes of no area, and pairs that only touch, among them."""
    random = np.random.default_rng(1)
    first, second = random_boxes(random, (2, 40)), random_boxes(random, (2, 30))
    first[0, 0, 2] = first[0, 0, 0]
    second[0, 0] = first[0, 1] + [first[0, 1, 2] - first[0, 1, 0], 0] * 2
    found = ops.convert_to_numpy(geometry.pairwise_iou(first, second))
    expected = [numpy_geometry.iou(a, b) for a, b in zip(first, second, strict=True)]
    assert found == pytest.approx(np.stack(expected), abs=1e-5)
    assert found.max() > 0.6
    assert found[0, 1, 0] == pytest.approx(0, abs=1e-6)


def plain_giou(a, b) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    enclosing = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return both / union - (enclosing - union) / enclosing


def test_giou():
    random = np.random.default_rng(2)
    first, second = random_boxes(random, (200,)), random_boxes(random, (200,))
    found = ops.convert_to_numpy(geometry.giou(first, second))
    expected = [plain_giou(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    assert found == pytest.approx(np.array(expected), abs=1e-5)
    assert found.min() < -0.5
    # Two squares of side 1/4 in opposite corners of one of side 1.
    corners = np.float32([[0, 0, 0.25, 0.25], [0.75, 0.75, 1, 1]])
    assert float(geometry.giou(corners[0], corners[1])) == pytest.approx(-(1 - 2 / 16))


@given(st.integers(0, 2**32 - 1))
def test_coding_round_trip(seed):
    random = np.random.default_rng(seed)
    anchors, boxes = random_boxes(random, (50,)), random_boxes(random, (50,))
    decoded = ops.convert_to_numpy(geometry.decode(anchors, geometry.encode(anchors, boxes)))
    assert decoded == pytest.approx(boxes, abs=1e-5)


def test_coding_by_hand():
    """Shifted by half its width and a quarter of its height, twice as wide, half as high."""
    anchor = np.float32([0.2, 0.4, 0.4, 0.8])
    deltas = np.float32([0.5, -0.25, np.log(2), -np.log(2)])
    decoded = ops.convert_to_numpy(geometry.decode(anchor, deltas))
    assert decoded == pytest.approx(np.float32([0.2, 0.4, 0.6, 0.6]))
    assert ops.convert_to_numpy(geometry.encode(anchor, decoded)) == pytest.approx(deltas, abs=1e-6)
    huge = ops.convert_to_numpy(geometry.decode(anchor, np.float32([0, 0, 1000, 0])))
    assert huge[2] - huge[0] == pytest.approx(0.2 * 1000 / 16, rel=1e-5)


def plain_anchors(side: int, size: float, per_octave: int, ratios: tuple[float, ...]):
    """Level by level, row by row; areas are those of squares, ratios height over width."""
    for level in (3, 4, 5, 6, 7):
        stride = 2**level
        cells = (side + stride - 1) // stride
        for row in range(cells):
            for column in range(cells):
                for octave in range(per_octave):
                    square = size * stride * 2 ** (octave / per_octave)
                    for ratio in ratios:
                        height = square * ratio**0.5
                        width = square**2 / height
                        x, y = (column + 0.5) * stride, (row + 0.5) * stride
                        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                        yield [value / side for value in box]


@pytest.mark.parametrize("side", [96, 128])
def test_anchors_are_those_of_a_plain_loop(side):
    """At 96 px the levels P6 and P7 have a part of a cell at their edge."""
    found = Anchors(size=2.0, per_octave=2, ratios=(0.5, 1.0, 3.0)).boxes(side)
    expected = np.array(list(plain_anchors(side, 2.0, 2, (0.5, 1.0, 3.0))))
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=1e-6)


def test_anchors_are_joined_with_what_is_predicted():
    layer = WithAnchors(64, Anchors(size=2.0, per_octave=1, ratios=(1.0, 2.0)), name="anchors")
    boxes = layer.anchors.boxes(64)
    random = np.random.default_rng(3)
    logits = random.normal(size=(2, len(boxes), 3)).astype(np.float32)
    deltas = random.normal(size=(2, len(boxes), 4)).astype(np.float32)
    again = WithAnchors.from_config(layer.get_config())
    for each in (layer, again):
        found = ops.convert_to_numpy(each(logits, deltas))
        assert np.array_equal(found[..., 4:7], logits)
        assert np.array_equal(found[..., 7:], deltas)
        assert np.array_equal(found[1, :, :4], boxes)
