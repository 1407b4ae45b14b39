"""COCO's figures through faster-coco-eval."""

import math
import sys

import numpy as np
import pytest

from lungbox.boxes import geometry
from lungbox.metrics import BoxTable, coco_average_precision
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


def test_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(CocoMissingError, match=r"pip install 'lungbox\[coco\]'"):
        coco_average_precision(TRUTH, TRUTH, 2)
