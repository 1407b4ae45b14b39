"""Boxes: invariants, and values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungbox.boxes import geometry

SIDE = st.floats(0, 1000, width=32)


@st.composite
def boxes(draw, least=0, most=6):
    corners = draw(st.lists(st.tuples(SIDE, SIDE, SIDE, SIDE), min_size=least, max_size=most))
    ordered = [(min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in corners]
    return geometry.as_boxes(ordered)


def test_iou_by_hand():
    first = geometry.as_boxes([(0, 0, 10, 10)])
    second = geometry.as_boxes([(5, 5, 15, 15), (0, 0, 10, 10), (10, 0, 20, 10), (2, 2, 4, 4)])
    assert geometry.iou(first, second)[0] == pytest.approx([25 / 175, 1, 0, 0.04])


def test_iou_of_nothing():
    empty = geometry.as_boxes([])
    assert geometry.iou(empty, geometry.as_boxes([(0, 0, 1, 1)])).shape == (0, 1)
    flat = geometry.as_boxes([(3, 3, 3, 3)])
    assert geometry.iou(flat, flat) == 0


@given(boxes(1), boxes(1))
def test_iou_is_symmetric_and_a_share(first, second):
    overlap = geometry.iou(first, second)
    assert np.allclose(overlap, geometry.iou(second, first).T)
    assert ((overlap >= 0) & (overlap <= 1 + 1e-9)).all()
    assert np.allclose(np.diag(geometry.iou(first, first)), 1)


@given(boxes(), st.floats(0, 0.49))
def test_shrinking_keeps_the_centre(found, share):
    smaller = geometry.shrink(found, share)
    assert np.allclose(smaller[:, :2] + smaller[:, 2:], found[:, :2] + found[:, 2:], atol=1e-2)
    sizes = found[:, 2:] - found[:, :2]
    assert np.allclose(smaller[:, 2:] - smaller[:, :2], sizes * (1 - 2 * share), atol=1e-2)


def test_five_percent_a_side_leave_ninety():
    shrunk = geometry.shrink(geometry.as_boxes([(0, 0, 100, 200)]), 0.05)
    assert shrunk == pytest.approx(geometry.as_boxes([(5, 10, 95, 190)]))


@pytest.mark.parametrize("share", [-0.1, 0.5, 1])
def test_shrinking_to_nothing_is_refused(share):
    with pytest.raises(ValueError, match=r"0 to 0\.5"):
        geometry.shrink(geometry.as_boxes([]), share)


def test_corner_form_to_width_and_height():
    found = geometry.to_xywh(geometry.as_boxes([(10, 20, 13, 27)]))
    assert found.tolist() == [[10, 20, 3, 7]]


@given(boxes(), st.tuples(st.integers(1, 4000), st.integers(1, 4000)))
def test_scaling_there_and_back(found, size):
    there = geometry.scale(found, (1024, 1024), size)
    assert np.allclose(geometry.scale(there, size, (1024, 1024)), found, rtol=1e-4, atol=1e-2)


def test_scaling_treats_the_axes_apart():
    scaled = geometry.scale(geometry.as_boxes([(1, 2, 3, 4)]), (10, 20), (20, 10))
    assert scaled.tolist() == [[2, 1, 6, 2]]


def test_clipping():
    clipped = geometry.clip(geometry.as_boxes([(-5, 2, 30, 40)]), (20, 30))
    assert clipped.tolist() == [[0, 2, 20, 30]]


def test_clipped_boxes_are_boxes():
    boxes = geometry.clip(geometry.as_boxes([(-5, -5, 90, 90)]), (40, 60))
    assert boxes.tolist() == [[0, 0, 40, 60]]
    assert boxes.dtype == np.float32
