"""Suppression equals plain loops and, where it has one, the package of the authors of WBF."""

import numpy as np
import pytest
from ensemble_boxes import nms
from hypothesis import given, settings
from hypothesis import strategies as st

from lungbox.boxes.geometry import as_boxes, iou
from lungbox.boxes.suppression import (
    class_wise_suppression,
    non_maximum_suppression,
    one_box_per_lung,
    soft_nms,
)


def boxes_of(random, count):
    corner = random.uniform(0, 300, (count, 2))
    return as_boxes(np.hstack([corner, corner + random.uniform(20, 300, (count, 2))]))


def overlap(a, b):
    """Intersection over union by hand."""
    across = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    down = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    whole = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - across * down
    return across * down / whole


def plain_nms(boxes, scores, labels, max_iou):
    waiting, kept = list(range(len(boxes))), []
    while waiting:
        best = max(waiting, key=lambda row: (scores[row], -row))
        kept.append(best)
        waiting = [
            row
            for row in waiting
            if row != best
            and not (labels[row] == labels[best] and overlap(boxes[row], boxes[best]) > max_iou)
        ]
    return kept


def plain_soft_nms(boxes, scores, max_iou, method, sigma, min_score):
    left, kept = dict(enumerate(scores)), []
    while left:
        best = max(left, key=lambda row: (left[row], -row))
        score = left.pop(best)
        if score < min_score:
            break
        kept.append((best, score))
        for row in left:
            shared = overlap(boxes[row], boxes[best])
            if method == "gaussian":
                left[row] *= np.exp(-shared * shared / sigma)
            elif shared > max_iou:
                left[row] *= 1 - shared
    return kept


def cases(seed):
    """A thousand: boxes in float64, as a plain loop has them, with equal scores among them."""
    random = np.random.default_rng(seed)
    for _ in range(1000):
        count = int(random.integers(0, 13))
        boxes, scores = boxes_of(random, count), random.integers(1, 20, count) / 20
        yield boxes, scores, random.integers(0, 3, count), random.uniform(0.1, 0.8)


def test_suppression_is_exact_on_a_thousand_random_cases():
    sizes = 0
    for boxes, scores, labels, max_iou in cases(0):
        exact = boxes.astype(float).tolist()
        expected = plain_nms(exact, scores, labels, max_iou)
        assert class_wise_suppression(boxes, scores, labels, max_iou).tolist() == expected
        expected = plain_nms(exact, scores, np.zeros(len(boxes)), max_iou)
        assert non_maximum_suppression(boxes, scores, max_iou).tolist() == expected
        sizes += len(boxes) - len(expected)
    assert sizes > 500


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_nms_is_exact_on_a_thousand_random_cases(method):
    for boxes, scores, _, max_iou in cases(1):
        rows, lowered = soft_nms(boxes, scores, max_iou, method, sigma=0.3, min_score=0.1)
        exact = boxes.astype(float).tolist()
        expected = plain_soft_nms(exact, scores.tolist(), max_iou, method, 0.3, 0.1)
        assert rows.tolist() == [row for row, _ in expected]
        assert lowered == pytest.approx([score for _, score in expected], abs=1e-6)


@settings(deadline=None)  # it is compiled first
@given(st.integers(0, 2**32 - 1), st.integers(1, 15), st.sampled_from([0.2, 0.5]))
def test_suppression_is_the_authors(seed, count, max_iou):
    random = np.random.default_rng(seed)
    boxes = boxes_of(random, count) / 600
    scores = np.float32(random.permutation(np.linspace(0.05, 0.95, count)))
    expected, confidences, _ = nms([boxes], [scores], [np.zeros(count)], iou_thr=max_iou)
    kept = non_maximum_suppression(boxes, scores, max_iou)
    assert boxes[kept] == pytest.approx(expected, abs=1e-6)
    assert scores[kept] == pytest.approx(confidences)
    overlaps = iou(boxes[kept], boxes[kept]) - np.eye(len(kept))
    assert overlaps.max() <= max_iou


def test_one_box_per_lung_takes_the_more_confident_of_each_half():
    boxes = as_boxes([[0, 0, 10, 5], [4, 0, 16, 5], [30, 0, 36, 5], [12, 8, 28, 9]])
    kept = one_box_per_lung(boxes, np.array([0.3, 0.5, 0.9, 0.4]), 40)
    assert kept.tolist() == [2, 1]  # a centre on the midline, at 20, is the left half's
