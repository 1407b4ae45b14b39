"""RoIAlign is that of a plain loop: every level, position-sensitive, with offsets."""

import numpy as np
import pytest
from keras import ops

from lungbox.architecture.detection.pooling import RoIAlign
from tests.architecture.detection.drawn import random_boxes

# Of an image of 4.5 strides of the last level, whose last cells reach beyond it.
SIDES = (18, 9, 5)


def interpolated(level: np.ndarray, x: float, y: float) -> np.ndarray:
    """Between the centres of a level's cells; beyond them the nearest."""
    side = len(level)
    cells = SIDES[0] / 2 ** SIDES.index(side)
    x, y = (min(max(value * cells - 0.5, 0), side - 1) for value in (x, y))
    left, top = int(x), int(y)
    right, bottom = min(left + 1, side - 1), min(top + 1, side - 1)
    a, b = x - left, y - top
    above = (1 - a) * level[top, left] + a * level[top, right]
    below = (1 - a) * level[bottom, left] + a * level[bottom, right]
    return (1 - b) * above + b * below


def plain_level(box, bins: int) -> int:
    """Where a bin is one to two cells wide."""
    extent = ((box[2] - box[0]) * (box[3] - box[1])) ** 0.5
    for number in range(len(SIDES)):
        if extent * SIDES[0] / 2**number / bins < 2:
            return number
    return len(SIDES) - 1


def plain_align(boxes, levels, bins, samples, groups, offsets):
    channels = levels[0].shape[-1] // groups
    found = np.zeros((*boxes.shape[:2], bins, bins, channels))
    used = set()
    for image, row, i, j in np.ndindex(*boxes.shape[:2], bins, bins):
        box = boxes[image, row].astype(float)
        number = plain_level(box, bins)
        used.add(number)
        level = levels[number][image].astype(float)
        first = (i * bins + j) * channels if groups > 1 else 0
        values = []
        for down, across in np.ndindex(samples, samples):
            share_x = (j + (across + 0.5) / samples) / bins + 0.1 * offsets[image, row, i, j, 0]
            share_y = (i + (down + 0.5) / samples) / bins + 0.1 * offsets[image, row, i, j, 1]
            x = box[0] + share_x * (box[2] - box[0])
            y = box[1] + share_y * (box[3] - box[1])
            values.append(interpolated(level, x, y)[first : first + channels])
        found[image, row, i, j] = np.mean(values, axis=0)
    assert used == {0, 1, 2}
    return found


@pytest.mark.parametrize("position_sensitive", [False, True])
@pytest.mark.parametrize(("bins", "samples"), [(3, 1), (2, 2)])
@pytest.mark.parametrize("deformable", [False, True])
def test_it_is_that_of_a_plain_loop(bins, samples, position_sensitive, deformable):
    """Boxes over the edge, of all levels and without any width among them."""
    random = np.random.default_rng(4)
    groups = bins**2 if position_sensitive else 1
    levels = [random.normal(size=(2, s, s, 3 * groups)).astype(np.float32) for s in SIDES]
    boxes = random_boxes(random, (2, 12))
    boxes[0, 0] = [0, 0, 1, 1]
    boxes[0, 1] = [0.5, 0.2, 0.5, 0.6]
    boxes[0, 2] = [0.9, -0.1, 1.1, 0.1]
    boxes[1, 0] = [0.3, 0.3, 0.4, 0.38]
    offsets = random.normal(0, deformable, (2, 12, bins, bins, 2)).astype(np.float32)
    layer = RoIAlign(bins, samples, position_sensitive)
    found = layer(boxes, levels, offsets) if deformable else layer(boxes, levels)
    shape = layer.compute_output_shape(boxes.shape, [level.shape for level in levels])
    assert tuple(found.shape) == shape == (2, 12, bins, bins, 3)
    expected = plain_align(boxes, levels, bins, samples, groups, offsets)
    assert ops.convert_to_numpy(found) == pytest.approx(expected, abs=1e-5)


def test_a_gradient_reaches_every_level():
    """Large and small boxes over the complete image."""
    import tensorflow as tf

    boxes = np.float32([[[0, 0, 1, 1], [0, 0, 0.6, 0.5], [0.2, 0.2, 0.3, 0.3]]])
    levels = [tf.Variable(tf.ones((1, side, side, 2))) for side in SIDES]
    with tf.GradientTape() as tape:
        pooled = tf.reduce_sum(RoIAlign(3, 2)(boxes, levels))
    for gradient in tape.gradient(pooled, levels):
        assert float(tf.reduce_sum(gradient)) == pytest.approx(9 * 2)
