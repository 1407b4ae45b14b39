"""Painted masks cover what the boxes cover."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungbox.boxes import OperatingPoint, RawPrediction, decide, geometry
from lungbox.datasets import load
from lungbox.training.targets import rasterize


def test_shares_of_pixels_by_hand():
    mask = rasterize(geometry.as_boxes([(1.5, 0, 3, 2)]), (4, 4), 4)
    assert mask[0].tolist() == [0, 128, 255, 0]
    assert mask[2].tolist() == [0, 0, 0, 0]


def test_the_file_may_have_any_shape():
    mask = rasterize(geometry.as_boxes([(100, 0, 200, 50)]), (200, 100), 8)
    assert mask[:4, 4:].min() == 255
    assert mask.sum() == 16 * 255


@given(st.lists(st.tuples(*[st.floats(0, 60)] * 4), max_size=4), st.integers(8, 64))
def test_area_is_kept(corners, side):
    ordered = [(min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in corners]
    boxes = geometry.as_boxes(ordered)
    mask = rasterize(boxes, (64, 64), side)
    covered = mask.sum() / 255 / side**2
    largest = geometry.area(boxes).max(initial=0) / 64**2
    assert covered >= largest - 0.02
    assert covered <= geometry.area(boxes).sum() / 64**2 + 0.02


def test_ellipses_lie_inside_their_box():
    boxes = geometry.as_boxes([(10, 20, 50, 44)])
    rectangle, ellipse = (
        rasterize(boxes, (64, 64), 64, shape) for shape in ("rectangle", "ellipse")
    )
    assert (ellipse <= rectangle).all()
    assert ellipse.sum() / rectangle.sum() == pytest.approx(np.pi / 4, abs=0.03)


@pytest.mark.parametrize("shape", ["rectangle", "ellipse"])
def test_hard_edges_follow_the_centres(shape):
    boxes = geometry.as_boxes([(1.4, 0.6, 5.6, 6.5)])
    soft, hard = (rasterize(boxes, (8, 8), 8, shape, edges) for edges in ("soft", "hard"))
    assert set(np.unique(hard)) == {0, 255}
    assert np.all(soft[hard == 255] >= 64)
    # An inner pixel that is wholly covered has its centre covered, too.
    assert np.all(hard[soft == 255] == 255)
    if shape == "rectangle":
        # Columns 1-5 by centres 1.5 and 5.5, rows 1-5 (6.5 is not below 6.5).
        assert np.argwhere(hard).min(axis=0).tolist() == [1, 1]
        assert np.argwhere(hard).max(axis=0).tolist() == [5, 5]


def reference_mask(boxes, side=128, size=1024):
    """What the reference system learns of `x, y, width, height` boxes in 1024 space."""
    factor = side / size
    mask = np.zeros((side, side), np.uint8)
    for x, y, width, height in boxes:
        x1, x2 = int(x * factor), int(x * factor + width * factor)
        y1, y2 = int(y * factor), int(y * factor + height * factor)
        mask[y1:y2, x1:x2] = 255
    return mask


corner, length = st.integers(0, 700), st.integers(8, 324)


@given(st.lists(st.tuples(corner, corner, length, length), max_size=4))
def test_truncated_masks_are_the_references(boxes):
    corners = [(x, y, x + width, y + height) for x, y, width, height in boxes]
    painted = rasterize(geometry.as_boxes(corners), (1024, 1024), 128, edges="truncated")
    assert np.array_equal(painted, reference_mask(boxes))


def test_hard_and_truncated_masks_differ():
    """By hand: a box from 7 to 20, of eight pixels each: by centres (4, 12, 20) the first two."""
    box = geometry.as_boxes([(7, 3, 20, 15)])
    hard, cut = (rasterize(box, (64, 32), 8, edges=edges) for edges in ("hard", "truncated"))
    # Across, 64 pixels are 8; down, 32 are 8, so four pixels each.
    assert [np.flatnonzero(row).tolist() for row in (hard[1], cut[1])] == [[1], [0, 1]]
    assert [np.flatnonzero(mask[:, 1]).tolist() for mask in (hard, cut)] == [[1, 2, 3], [0, 1, 2]]


@pytest.mark.real
def test_how_many_real_masks_both_ways_agree_on(shared):
    """Few: nearly every box has an edge that the centres and the truncation put apart."""
    images = [image for image in load(shared).images if image.source == "rsna" and image.boxes.size]
    assert len(images) == 914
    equal = [
        np.array_equal(*(rasterize(i.boxes, i.size, 128, edges=e) for e in ("hard", "truncated")))
        for i in images
    ]
    assert sum(equal) == 67


@given(st.integers(0, 40), st.integers(0, 40), st.integers(8, 20), st.integers(8, 20))
def test_a_painted_box_comes_back(x, y, width, height):
    box = geometry.as_boxes([(x, y, x + width, y + height)])
    opacity = rasterize(box, (64, 64), 64) / 255
    point = OperatingPoint(threshold=0.5, min_area=0, shrink=0)
    mask = np.stack([1 - opacity, opacity], axis=-1)
    found = decide(RawPrediction(1.0, mask), (64, 64), point).boxes
    assert np.array_equal(found, box)
