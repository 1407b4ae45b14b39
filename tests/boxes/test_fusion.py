"""Weighted boxes fusion is its authors'; suppression leaves what does not overlap."""

import numpy as np
import pytest
from ensemble_boxes import nms, weighted_boxes_fusion
from hypothesis import given, settings
from hypothesis import strategies as st

from lungbox.boxes.fusion import Voter, fuse, weighted_boxes
from lungbox.boxes.geometry import as_boxes, iou
from lungbox.boxes.suppression import non_maximum_suppression, one_box_per_lung


def voters_of(seed, count, weights):
    """Overlapping boxes in 0-1 without equal scores."""
    random = np.random.default_rng(seed)
    found = []
    for weight in weights:
        corner = random.uniform(0, 0.5, (count, 2))
        side = random.uniform(0.1, 0.5, (count, 2))
        scores = random.permutation(np.linspace(0.05, 0.95, count)) + random.uniform(0, 0.01)
        found.append(
            Voter(as_boxes(np.hstack([corner, corner + side])), np.float32(scores), weight)
        )
    return found


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=1, max_size=4),
    st.sampled_from([0.3, 0.5, 0.7]),
)
def test_weighted_boxes_are_the_authors(seed, count, weights, max_iou):
    voters = voters_of(seed, count, weights)
    expected_boxes, expected_scores, _ = weighted_boxes_fusion(
        [voter.boxes.astype(float) for voter in voters],
        [voter.scores for voter in voters],
        [np.zeros(count)] * len(voters),
        weights=weights,
        iou_thr=max_iou,
    )
    boxes, scores = weighted_boxes(voters, max_iou)
    assert len(boxes) == len(expected_boxes)
    assert scores == pytest.approx(expected_scores, abs=1e-5)
    order = np.lexsort(np.column_stack([boxes.round(4), -scores.round(4)]).T)
    other = np.lexsort(np.column_stack([expected_boxes.round(4), -expected_scores.round(4)]).T)
    assert boxes[order] == pytest.approx(expected_boxes[other], abs=2e-4)


@settings(deadline=None)  # it is compiled first
@given(st.integers(0, 2**32 - 1), st.integers(1, 15), st.sampled_from([0.2, 0.5]))
def test_suppression_is_the_authors(seed, count, max_iou):
    (voter,) = voters_of(seed, count, [1.0])
    expected, scores, _ = nms([voter.boxes], [voter.scores], [np.zeros(count)], iou_thr=max_iou)
    kept = non_maximum_suppression(voter.boxes, voter.scores, max_iou)
    assert voter.boxes[kept] == pytest.approx(expected, abs=1e-6)
    assert voter.scores[kept] == pytest.approx(scores)
    overlaps = iou(voter.boxes[kept], voter.boxes[kept]) - np.eye(len(kept))
    assert overlaps.max() <= max_iou


def test_suppression_of_several_networks_weighs_their_scores():
    box = as_boxes([[0, 0, 10, 20]])
    voters = [Voter(box, np.float32([0.9]), 0.5), Voter(box + 1, np.float32([0.8]), 1.0)]
    boxes, scores = fuse(voters, 0.5, "nms")
    assert boxes.tolist() == [[1, 1, 11, 21]]
    assert scores == pytest.approx([0.8])
    assert len(fuse([], 0.5, "nms")[0]) == len(fuse([], 0.5)[0]) == 0


def test_one_box_per_lung_takes_the_more_confident_of_each_half():
    boxes = as_boxes([[0, 0, 10, 5], [4, 0, 16, 5], [30, 0, 36, 5], [12, 8, 28, 9]])
    kept = one_box_per_lung(boxes, np.array([0.3, 0.5, 0.9, 0.4]), 40)
    assert kept.tolist() == [2, 1]  # a centre on the midline, at 20, is the left half's
