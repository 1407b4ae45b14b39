"""Masks to boxes: invariants, hand-made masks, and the reference system's own results."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungbox.boxes import (
    Detections,
    OperatingPoint,
    RawPrediction,
    decide,
    geometry,
    withheld_by_gate,
)
from tests import reference

PLAIN = OperatingPoint(threshold=0.5, min_area=0, shrink=0)


def regions(mask, size, image_score, point):
    """Boxes and confidences of a mask of one class."""
    boxes, scores, labels = decide(RawPrediction(image_score, mask), size, point)
    assert (labels.shape, labels.dtype) == (scores.shape, np.int64)
    assert not labels.any()
    return boxes, scores


def mask_of(*rectangles, side=32, inside=0.9, outside=0.1):
    """A `(side, side, 2)` mask whose opacity is `inside` in `x1, y1, x2, y2` rectangles."""
    opacity = np.full((side, side), outside, np.float32)
    for x1, y1, x2, y2 in rectangles:
        opacity[y1:y2, x1:x2] = inside
    return np.stack([1 - opacity, opacity], axis=-1)


def test_one_region_to_pixels_of_the_file():
    boxes, scores = regions(mask_of((8, 4, 16, 20)), (640, 320), 1, PLAIN)
    assert boxes.tolist() == [[160, 40, 320, 200]]
    assert scores == pytest.approx([0.9])


def test_diagonal_neighbours_are_one_region():
    boxes, _ = regions(mask_of((0, 0, 8, 8), (8, 8, 16, 16)), (32, 32), 1, PLAIN)
    assert boxes.tolist() == [[0, 0, 16, 16]]


def test_most_certain_first():
    mask = mask_of((0, 0, 8, 8), inside=0.6)
    mask[20:28, 20:28] = (0.05, 0.95)
    boxes, scores = regions(mask, (32, 32), 1, PLAIN)
    assert scores == pytest.approx([0.95, 0.6])
    assert boxes[0].tolist() == [20, 20, 28, 28]


def test_the_bounding_box_must_be_larger_than_the_least_area():
    mask = mask_of((0, 0, 8, 8))
    at_limit = replace(PLAIN, min_area=64 / 1024)
    assert len(regions(mask, (32, 32), 1, at_limit)[0]) == 0
    assert len(regions(mask, (32, 32), 1, replace(at_limit, min_area=0.0624))[0]) == 1


def test_a_closed_gate_lets_nothing_through():
    gated = replace(PLAIN, gate=0.4)
    mask = mask_of((0, 0, 8, 8))
    assert len(regions(mask, (32, 32), 0.39, gated)[0]) == 0
    assert len(regions(mask, (32, 32), 0.4, gated)[0]) == 1


def test_argmax_leaves_ties_to_the_background():
    mask = np.full((8, 8, 2), 0.5, np.float32)
    assert len(regions(mask, (8, 8), 1, replace(PLAIN, rule="argmax"))[0]) == 0


def test_argmax_compares_channels_that_do_not_sum_to_one():
    mask = np.full((8, 8, 2), (0.2, 0.3), np.float32)
    assert len(regions(mask, (8, 8), 1, replace(PLAIN, rule="argmax"))[0]) == 1
    assert len(regions(mask, (8, 8), 1, PLAIN)[0]) == 0


@given(
    st.lists(st.tuples(*[st.integers(0, 31)] * 4), max_size=5),
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.floats(0, 0.3),
    st.floats(0, 0.2),
)
def test_boxes_are_inside_the_file_and_large_enough(corners, size, share, least):
    rectangles = [(min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in corners]
    point = OperatingPoint(threshold=0.5, min_area=least, shrink=share)
    boxes, scores = regions(mask_of(*rectangles), size, 1, point)
    assert len(boxes) == len(scores) <= len(rectangles)
    width, height = size
    x1, y1, x2, y2 = boxes.T
    assert ((x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height)).all()
    whole = geometry.area(boxes) / (1 - 2 * share) ** 2
    assert (whole >= least * width * height * 0.999).all()
    assert ((scores >= 0) & (scores <= 1)).all()


@given(st.integers(0, 2**32 - 1))
def test_a_larger_file_has_the_same_boxes_in_proportion(seed):
    opacity = np.random.default_rng(seed).random((16, 16))
    mask = np.stack([1 - opacity, opacity], axis=-1)
    small, scores = regions(mask, (16, 16), 1, PLAIN)
    large, same = regions(mask, (1600, 800), 1, PLAIN)
    assert np.allclose(small * [100, 50, 100, 50], large)
    assert np.array_equal(scores, same)


def reference_string(boxes, scores):
    numbers = np.column_stack([scores, geometry.to_xywh(boxes)]).tolist()
    return sorted((round(c, 6), *map(int, box)) for c, *box in numbers)


def test_the_references_own_boxes():
    maps = np.load(reference.FOLDER / "ensemble_maps.npz")["maps"].astype(np.float32)
    strings = json.loads((reference.FOLDER / "ensemble_boxes.json").read_text())
    assert len(strings) == 16
    point = OperatingPoint(rule="argmax", compatibility="reference")
    for members, string in zip(maps, strings, strict=True):
        numbers = np.array(string.split(), np.float64).reshape(-1, 5)
        expected = sorted((round(c, 6), *map(int, box)) for c, *box in numbers.tolist())
        found = reference_string(*regions(members.mean(axis=0), (1024, 1024), 1, point))
        assert [box for _, *box in found] == [box for _, *box in expected]
        assert np.allclose([c for c, *_ in found], [c for c, *_ in expected], atol=1e-6)


def test_the_references_arithmetic_by_hand():
    """128 x 200 pixels of 1024 are more than 25,000; 96 x 128 are not."""
    mask = mask_of((10, 20, 26, 45), (60, 60, 72, 76), side=128)
    mask[20:30, 10:20] = (0.9, 0.1)  # a quarter of the first box is not mask
    point = OperatingPoint(rule="argmax", compatibility="reference")
    boxes, scores = regions(mask, (1024, 1024), 1, point)
    # int(128 * 0.05) = 6 off the left and right, int(200 * 0.05) = 10 off top and bottom.
    assert boxes.tolist() == [[80 + 6, 160 + 10, 208 - 6, 360 - 10]]
    assert scores == pytest.approx([0.75])


def test_a_confidence_is_the_mean_over_the_region():
    mask = mask_of((0, 0, 8, 8), inside=0.6, outside=0.0)
    mask[2, 2] = (0.1, 0.9)
    mask[:4, 4:8] = (1, 0)  # a quarter of the box is not mask
    total = 47 * 0.6 + 0.9
    assert regions(mask, (32, 32), 1, PLAIN)[1] == pytest.approx([total / 48])


def test_one_box_a_lung_is_the_most_certain():
    mask = mask_of((2, 2, 8, 8), (2, 20, 8, 26), inside=0.7)
    mask[4:10, 20:26] = (0.2, 0.8)
    mask[20:26, 2:8] = (0.1, 0.9)
    boxes, scores = regions(mask, (32, 32), 1, replace(PLAIN, max_one_box_per_lung=True))
    assert boxes.tolist() == [[2, 20, 8, 26], [20, 4, 26, 10]]
    assert scores == pytest.approx([0.9, 0.8])


def grid_of(opacity):
    """A `(h, w, 2)` mask of an opacity map, which need not be square."""
    opacity = np.asarray(opacity, np.float32)
    return np.stack([1 - opacity, opacity], axis=-1)


@pytest.mark.parametrize(
    "point", [replace(PLAIN, gate=0.4), OperatingPoint(compatibility="reference", gate=0.4)]
)
def test_nothing_has_the_shapes_and_types_of_something(point):
    empty = grid_of(np.zeros((24, 48)))
    for score in (0.3, 0.5):  # behind the gate, and nothing painted
        boxes, scores = regions(empty, (96, 64), score, point)
        assert (boxes.shape, boxes.dtype) == ((0, 4), np.float32)
        assert (scores.shape, scores.dtype) == ((0,), np.float32)


def test_equal_confidences_keep_the_order_of_the_image():
    opacity = np.zeros((32, 48))
    opacity[1::4, 1::4] = 0.9  # 96 single pixels
    boxes, scores = regions(grid_of(opacity), (48, 32), 1, PLAIN)
    assert len(boxes) == 96
    assert len(set(scores.tolist())) == 1
    assert boxes.tolist() == sorted(boxes.tolist(), key=lambda box: (box[1], box[0]))


def test_halves_of_a_wide_mask_are_those_of_its_width():
    """Two centres in the left half, at 10 and 19 of 48 columns and 24 rows; one on the midline,
    which is the left half's too; one in the right."""
    opacity = np.zeros((24, 48))
    for left, value in ((8, 0.6), (17, 0.9), (22, 0.8), (40, 0.7)):
        opacity[2:6, left : left + 4] = value
        opacity[:, 21] = 0
    one = replace(PLAIN, max_one_box_per_lung=True)
    boxes, scores = regions(grid_of(opacity), (48, 24), 1, one)
    assert boxes.tolist() == [[17, 2, 21, 6], [40, 2, 44, 6]]
    assert scores == pytest.approx([0.9, 0.7])
    assert len(regions(grid_of(opacity), (48, 24), 1, PLAIN)[0]) == 4
    opacity[:, :21] = 0
    boxes, _ = regions(grid_of(opacity), (48, 24), 1, one)
    assert boxes[:, 0].tolist() == [22, 40]
    opacity[:, :] = 0
    opacity[2:6, 2:6], opacity[10:14, 2:6] = 0.6, 0.9
    assert regions(grid_of(opacity), (48, 24), 1, one)[0].tolist() == [[2, 10, 6, 14]]


def test_a_confidence_is_at_most_1():
    """Sums of many probabilities may round to more."""
    opacity = np.zeros((8, 12))
    opacity[2:6, 3:9] = 1.25
    assert regions(grid_of(opacity), (12, 8), 1, PLAIN)[1].tolist() == [1]


def test_the_references_least_area_and_order():
    """A box of its map of 1024 x 1024 must be larger than 25,000 pixels; the fuller comes first."""
    opacity = np.zeros((1024, 1024))
    opacity[0:125, 0:200] = 1
    point = OperatingPoint(rule="argmax", compatibility="reference")
    assert len(regions(grid_of(opacity), (1024, 1024), 1, point)[0]) == 0
    opacity[0:126, 0:200] = 1
    opacity[0:50, 0:100] = 0
    opacity[500:700, 500:800] = 1
    boxes, scores = regions(grid_of(opacity), (2048, 1024), 1, point)
    assert scores.dtype == np.float32
    assert scores == pytest.approx([1, 1 - 5000 / 25_200])
    assert boxes.tolist() == [[1030, 510, 1570, 690], [20, 6, 380, 120]]


def test_classes_are_regions_of_their_own_channel():
    """Two classes beside the background in a mask that is not square; they may overlap."""
    mask = np.zeros((24, 48, 3), np.float32)
    mask[..., 0] = 0.9
    mask[2:10, 4:12] = (0.2, 0.7, 0.1)
    mask[4:12, 20:44] = (0.1, 0.1, 0.8)
    mask[4:8, 8:12, 2] = 0.6
    boxes, scores, labels = decide(RawPrediction(1.0, mask), (96, 24), PLAIN)
    assert labels.tolist() == [1, 0, 1]
    assert boxes.tolist() == [[40, 4, 88, 12], [8, 2, 24, 10], [16, 4, 24, 8]]
    assert scores == pytest.approx([0.8, 0.7, 0.6])
    argmax = decide(RawPrediction(1.0, mask), (96, 24), replace(PLAIN, rule="argmax"))
    assert argmax.labels.tolist() == [1, 0]
    ties = np.full((8, 8, 3), (0.2, 0.4, 0.4), np.float32)
    assert decide(RawPrediction(1.0, ties), (8, 8), replace(PLAIN, rule="argmax")).labels == [0]


def test_one_box_per_lung_is_one_of_each_class():
    mask = np.zeros((16, 32, 3), np.float32)
    for column, (first, second) in ((2, (0.7, 0.0)), (8, (0.9, 0.0)), (24, (0.0, 0.8))):
        mask[2:6, column : column + 4] = (0, first, second)
    mask[10:14, 2:6] = (0, 0, 0.6)
    one = replace(PLAIN, max_one_box_per_lung=True)
    boxes, scores, labels = decide(RawPrediction(1.0, mask), (32, 16), one)
    assert boxes[:, 0].tolist() == [8, 24, 2]
    assert (labels.tolist(), scores) == ([0, 1, 1], pytest.approx([0.9, 0.8, 0.6]))


VOTER = Detections(
    np.array([[0.1, 0.2, 0.5, 0.6], [0.6, 0.2, 0.9, 0.4], [0.0, 0.0, 0.2, 0.2]], np.float32),
    np.array([[0.8, 0.1], [0.04, 0.6], [0.03, 0.02]], np.float32),
)


def test_detections_become_boxes_of_the_file():
    """Scores below `min_score` are dropped, of each class; boxes are cut off at the edges."""
    boxes, scores, labels = decide(RawPrediction(1.0, None, (VOTER,)), (200, 100), PLAIN)
    assert labels.tolist() == [0, 1, 1]
    assert scores == pytest.approx([0.8, 0.6, 0.1])
    assert boxes[:2] == pytest.approx(np.array([[20, 20, 100, 60], [120, 20, 180, 40]]), abs=1e-4)
    outside = Detections(VOTER.boxes + np.float32([0.5, 0, 0.5, 0]), VOTER.scores)
    boxes = decide(RawPrediction(1.0, None, (outside,)), (200, 100), PLAIN).boxes
    assert boxes[0] == pytest.approx([120, 20, 200, 60], abs=1e-4)
    assert len(boxes) == 2  # the second is outside altogether


def test_a_mask_and_detections_vote_together():
    """The mask's box and the detection's overlap by 0.8; both voters count alike, and a box of
    one of the two has half its confidence."""
    mask = np.zeros((10, 20, 2), np.float32)
    mask[2:6, 2:10, 1] = 0.6  # 0.1, 0.2 to 0.5, 0.6, as the detection
    mask[0:2, 16:20, 1] = 0.9
    detection = Detections(VOTER.boxes[:1], np.array([[0.8]], np.float32))
    boxes, scores, _ = decide(RawPrediction(1.0, mask, (detection,)), (200, 100), PLAIN)
    assert scores == pytest.approx([0.7, 0.45])
    assert boxes == pytest.approx(np.array([[20, 20, 100, 60], [160, 0, 200, 20]]), abs=1e-3)
    light = RawPrediction(1.0, mask, (replace(detection, weight=0.75),), mask_weight=0.25)
    scores = decide(light, (200, 100), PLAIN).scores  # (0.8 x 0.75 + 0.6 x 0.25), 0.9 x 0.25
    assert scores == pytest.approx([0.75, 0.225])
    closed = decide(RawPrediction(0.2, mask, (detection,)), (200, 100), replace(PLAIN, gate=0.3))
    assert len(closed.boxes) == 0


def test_one_networks_own_boxes_are_suppressed_before_they_vote():
    """By class: the second box overlaps the first by 0.8, and both networks have it."""
    corners = np.float32([[0.1, 0.2, 0.5, 0.6], [0.1, 0.2, 0.42, 0.6], [0.1, 0.2, 0.5, 0.6]])
    scores = np.float32([[0.8, 0], [0.6, 0.1], [0, 0.7]])
    other = Detections(corners[:1], np.float32([[0.4, 0]]))
    prediction = RawPrediction(1.0, None, (Detections(corners, scores), other))
    point = replace(PLAIN, nms_iou=0.7)
    _, confidences, labels = decide(prediction, (200, 100), point)
    # (0.8 + 0.4) / 2, and a box of one of the two.
    assert (labels.tolist(), confidences.tolist()) == (
        [0, 1],
        [pytest.approx(0.6), pytest.approx(0.35)],
    )
    _, confidences, labels = decide(prediction, (200, 100), replace(point, nms_iou=0.85))
    assert labels.tolist() == [0, 1]
    assert confidences[0] == pytest.approx((0.8 + 0.6 + 0.4) / 3)
    strict = replace(point, fusion="intersection")
    assert decide(prediction, (200, 100), strict).labels.tolist() == [0]


def test_nothing_predicted_is_nothing_found():
    for prediction in (RawPrediction(1.0), RawPrediction(1.0, None, (VOTER,))):
        boxes, scores, labels = decide(prediction, (9, 7), replace(PLAIN, min_score=0.9))
        assert (boxes.shape, boxes.dtype) == ((0, 4), np.float32)
        assert (scores.dtype, labels.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("compatibility", ["lungbox", "reference"])
@pytest.mark.parametrize("voters", [(), (VOTER,)])
@given(score=st.sampled_from([0.0, 0.39, 0.4, 0.41, 1.0]))
def test_a_box_is_found_or_withheld_and_never_both(compatibility, voters, score):
    """At the gate itself boxes are found; below it those of an open gate are withheld."""
    if compatibility == "reference":
        voters = ()
    mask = mask_of((2, 4, 20, 26), (22, 3, 30, 29), outside=0.05)
    point = replace(PLAIN, compatibility=compatibility, gate=0.4, shrink=0.05, min_area=0.01)
    prediction = RawPrediction(score, mask, voters)
    size = (640, 480)
    found, withheld = (of(prediction, size, point) for of in (decide, withheld_by_gate))
    ungated = decide(prediction, size, replace(point, gate=0.0))
    assert len(ungated.boxes) >= 2
    kept, empty = (found, withheld) if score >= 0.4 else (withheld, found)
    assert all(np.array_equal(*pair) for pair in zip(kept, ungated, strict=True))
    assert empty.boxes.shape == (0, 4)
    assert len(empty.scores) == len(empty.labels) == 0
