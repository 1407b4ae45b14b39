"""Precision and recall, and FROC, by hand."""

import math

import numpy as np
import pytest

from lungbox.boxes import geometry
from lungbox.metrics import BoxTable, DetectionCurve, froc

TRUTH = BoxTable.of(
    [geometry.as_boxes(boxes) for boxes in ([(0, 0, 10, 10), (20, 0, 30, 10)], [], [(0, 0, 9, 9)])]
)
# Hit; miss on the image without truth; hit and a second box on the same truth, equally certain;
# miss.
PREDICTED = BoxTable.of(
    [
        geometry.as_boxes([(0, 0, 10, 10), (50, 50, 60, 60)]),
        geometry.as_boxes([(0, 0, 10, 10)]),
        geometry.as_boxes([(0, 0, 9, 9), (0, 0, 9, 8)]),
    ],
    [np.array([0.9, 0.1]), np.array([0.8]), np.array([0.5, 0.5])],
)


@pytest.fixture
def curve():
    return DetectionCurve.of(TRUTH, PREDICTED, images=3)


def test_counts_at_every_distinct_score(curve):
    assert curve.scores.tolist() == [0.9, 0.8, 0.5, 0.1]
    assert curve.hits.tolist() == [1, 1, 2, 2]
    assert curve.false_positives.tolist() == [0, 1, 2, 3]


def test_precision_and_recall(curve):
    assert curve.precision == pytest.approx([1, 1 / 2, 2 / 4, 2 / 5])
    assert curve.recall == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_froc_takes_what_the_rate_allows(curve):
    # 0, 1/3, 2/3 and 1 false positives an image.
    assert froc(curve, (0, 0.6, 2 / 3, 8)) == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_froc_where_the_most_certain_is_wrong():
    predicted = BoxTable.of(
        [geometry.as_boxes([]), geometry.as_boxes([(0, 0, 9, 9)]), geometry.as_boxes([])],
        [np.zeros(0), np.ones(1), np.zeros(0)],
    )
    assert froc(DetectionCurve.of(TRUTH, predicted, 3), (0.1, 1)).tolist() == [0, 0]


def test_the_iou_decides(curve):
    predicted = BoxTable.of([geometry.as_boxes([(0, 0, 10, 5)])], [np.ones(1)])
    truth = BoxTable.of([geometry.as_boxes([(0, 0, 10, 10)])])
    assert DetectionCurve.of(truth, predicted, 1, iou=0.5).hits.tolist() == [1]
    assert DetectionCurve.of(truth, predicted, 1, iou=0.51).hits.tolist() == [0]


def test_without_truth_or_predictions():
    nothing = BoxTable.of([geometry.as_boxes([])] * 3)
    assert froc(DetectionCurve.of(TRUTH, nothing, 3)).tolist() == [0] * 7
    without = DetectionCurve.of(nothing, PREDICTED, 3)
    assert all(map(math.isnan, froc(without)))
    assert all(map(math.isnan, without.recall))


def test_froc_below_the_first_false_positive_is_0():
    """The most certain is wrong, the next one right: before the first nothing is found."""
    predicted = BoxTable.of(
        [geometry.as_boxes([(50, 50, 60, 60), (0, 0, 10, 10)])], [np.array([0.9, 0.8])]
    )
    truth = BoxTable.of([geometry.as_boxes([(0, 0, 10, 10)])])
    found = froc(DetectionCurve.of(truth, predicted, images=1), (0.5, 1, 2))
    assert found.tolist() == [0, 1, 1]


def test_truth_is_certain_and_of_one_class():
    table = BoxTable.of([geometry.as_boxes([(0, 0, 10, 10), (5, 5, 9, 9)])])
    assert (table.scores.tolist(), table.classes.tolist()) == ([1, 1], [0, 0])
