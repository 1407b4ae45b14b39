"""COCO's figures through faster-coco-eval."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungbox.boxes import geometry
from lungbox.metrics import BoxTable, CocoMatches, coco_average_precision, mean_over_classes
from lungbox.metrics.coco import COCO_FIGURES, CocoMissingError

TRUTH = BoxTable.of(
    [geometry.as_boxes([(0, 0, 200, 200)]), geometry.as_boxes([(50, 50, 70, 70)])],
    classes=[np.array([0]), np.array([3])],
)


def predictions(boxes, classes=(0, 3)):
    return BoxTable.of(
        [geometry.as_boxes([box]) for box in boxes],
        [np.array([0.9]), np.array([0.8])],
        [np.array([number]) for number in classes],
    )


def test_perfect_boxes(capsys):
    pytest.importorskip("faster_coco_eval")
    found = coco_average_precision(TRUTH, predictions([(0, 0, 200, 200), (50, 50, 70, 70)]), 2)
    assert tuple(found) == COCO_FIGURES
    assert found["AP"] == found["AP50"] == found["APs"] == found["APl"] == pytest.approx(1)
    assert math.isnan(found["APm"])
    assert capsys.readouterr().out == ""


def test_the_iou_and_the_class_decide():
    pytest.importorskip("faster_coco_eval")
    # The large box is met with IoU 0.68: hits at 0.5, 0.55, 0.6 and 0.65, four of ten; the small
    # one has another class.
    found = coco_average_precision(
        TRUTH, predictions([(0, 0, 200, 136), (50, 50, 70, 70)], classes=(0, 0)), 2
    )
    assert found["AP50"] == pytest.approx(0.5, abs=0.01)
    assert found["AP75"] == 0
    assert found["AP"] == pytest.approx(0.4 / 2, abs=0.01)


def test_without_truth_or_predictions():
    pytest.importorskip("faster_coco_eval")
    nothing = BoxTable.of([geometry.as_boxes([])] * 2)
    assert coco_average_precision(TRUTH, nothing, 2)["AP"] == 0
    assert all(map(math.isnan, coco_average_precision(nothing, TRUTH, 2).values()))


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_the_weighted_form_is_cocos(seed, count):
    """Boxes of 12 images of 640 x 480 pixels and 3 classes, without equal scores; resampled images
    are repeated images."""
    pytest.importorskip("faster_coco_eval")
    random = np.random.default_rng(seed)

    def boxes(number):
        corner = random.uniform(0, 0.3, (number, 2)) * (640, 480)
        return geometry.as_boxes(
            np.hstack([corner, corner + random.uniform(0.3, 0.7, (number, 2)) * (640, 480)])
        )

    rows = np.sort(random.integers(0, 12, count))
    labels = random.integers(0, 3, count)
    truth = BoxTable(rows, boxes(count), np.ones(count), labels)
    scores = random.permutation(np.arange(1, 2 * count + 1)) / (2 * count)
    predicted = BoxTable(
        np.concatenate([rows, random.integers(0, 12, count)]),
        np.concatenate([truth.boxes + np.float32(random.normal(0, 25, (count, 4))), boxes(count)]),
        scores,
        np.concatenate([labels, random.integers(0, 3, count)]),
    )
    weights = np.stack([np.ones(12), random.integers(0, 3, 12)]).astype(float)
    matches = CocoMatches.of(truth, predicted)
    found = mean_over_classes(matches.average_precisions(weights))
    assert found[0] == pytest.approx(coco_average_precision(truth, predicted, 12)["AP"], abs=1e-6)
    # Copies of an image follow it with scores that are lower by next to nothing.
    copies = [(image, turn) for turn in range(2) for image in range(12) if weights[1, image] > turn]
    again = [_copied(table, copies) for table in (truth, predicted)]
    if len(again[0]):
        expected = coco_average_precision(*again, len(copies))["AP"]
        assert found[1] == pytest.approx(expected, abs=1e-6)
    else:
        assert math.isnan(found[1])


def _copied(table, copies):
    rows, images, lower = [], [], []
    for index, (image, turn) in enumerate(copies):
        of_image = np.flatnonzero(table.images == image).tolist()
        rows += of_image
        images += [index] * len(of_image)
        lower += [1e-9 * turn] * len(of_image)
    rows = np.array(rows, int)
    scores = table.scores[rows] - np.array(lower, float)
    return BoxTable(np.array(images, int), table.boxes[rows], scores, table.classes[rows])


def test_at_most_100_boxes_of_an_image_and_class_count():
    truth = BoxTable.of([geometry.as_boxes([(0, 0, 200, 100)])])
    boxes = np.tile(np.float32([300, 0, 400, 90]), (101, 1))
    scores = np.linspace(1, 0.5, 101)
    for row, expected in ((100, 0), (99, 0.01)):
        boxes[row] = (0, 0, 200, 100)
        matches = CocoMatches.of(truth, BoxTable.of([boxes], [scores]))
        values = matches.average_precisions(np.ones((1, 1)))
        assert values[0, 0] == pytest.approx(expected)
        boxes[row] = (300, 0, 400, 90)


def test_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(CocoMissingError, match=r"pip install 'lungbox\[coco\]'"):
        coco_average_precision(TRUTH, TRUTH, 2)
