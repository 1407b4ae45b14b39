"""Operating points by name: what each is best at, on which patients, and its figures by hand."""

from dataclasses import replace

import numpy as np
import pytest

from lungbox.boxes import Decision, OperatingPoint, geometry
from lungbox.datasets.rsna import INFO
from lungbox.datasets.types import Dataset
from lungbox.evaluation import named_points as module
from lungbox.evaluation.named_points import false_positives, named_points, point_figures
from lungbox.evaluation.operating_point import CrossFit, patient_parts
from tests.evaluation.drawn import drawn_maps

RSNA = OperatingPoint("threshold", 0.45, min_area=0.01, gate=0.6)


@pytest.fixture(scope="module")
def predictions():
    """Masks that are empty on some positives, and without noise."""
    drawn = drawn_maps(count=120, seed=9)
    return replace(drawn, opacity=np.where(drawn.opacity < 60, 0, drawn.opacity))


@pytest.fixture(scope="module")
def fitted(predictions):
    return CrossFit(RSNA, (RSNA,) * len(predictions.dataset))


@pytest.fixture(scope="module")
def named(predictions, fitted):
    return named_points(predictions, fitted, fold=3)


def rates(predictions, point, rows=slice(None)):
    """Sensitivity and specificity, image by image and class by class."""
    boxed = {"positive": []} | {name: [] for name in INFO.negatives.values()}
    for row in np.arange(len(predictions.dataset))[rows]:
        image = predictions.dataset.images[row]
        kind = "positive" if len(image.boxes) else image.category
        boxed[kind].append(len(predictions.boxes(int(row), point).boxes) > 0)
    shares = {name: INFO.mix[name] for name in INFO.negatives.values()}
    empty = sum(share * (1 - np.mean(boxed[name])) for name, share in shares.items())
    return np.mean(boxed["positive"]), empty / sum(shares.values())


def test_rsna_is_what_was_chosen_for_the_metric(named):
    assert list(named) == ["rsna", "balanced", "sensitive"]
    assert named["rsna"].point == RSNA


def test_balanced_differs_in_its_gate_which_is_about_the_best(predictions, named):
    point = named["balanced"].point
    assert replace(point, gate=RSNA.gate) == RSNA
    index = sum(rates(predictions, point))
    others = [
        sum(rates(predictions, replace(RSNA, gate=gate))) for gate in np.linspace(0, 0.95, 40)
    ]
    assert index >= max(others) - 0.02
    assert index > sum(rates(predictions, RSNA))
    # Without a gate it is the same here; of gates that are alike the highest is taken.
    assert index == pytest.approx(others[0])
    assert point.gate > 0.1


def test_sensitive_is_the_most_specific_that_is_sensitive_enough(predictions, named, monkeypatch):
    monkeypatch.setattr(module, "MIN_SENSITIVITY", 0.8)
    reached = named_points(predictions, CrossFit(RSNA, (RSNA,) * 120), 0)["sensitive"].point
    sensitivity, specificity = rates(predictions, reached)
    assert sensitivity >= 0.8
    for threshold in module._THRESHOLDS[::3]:
        for area in module._MIN_AREAS:
            for gate in np.linspace(0, 0.9, 10):
                other = replace(RSNA, threshold=threshold, min_area=area, gate=gate)
                of_other = rates(predictions, other)
                assert of_other[0] < 0.8 or of_other[1] <= specificity + 1e-9
    # Where no point is sensitive enough: the most sensitive there is.
    unreached = rates(predictions, named["sensitive"].point)
    assert 0.8 < unreached[0] < 0.95
    assert unreached[0] >= rates(predictions, replace(RSNA, threshold=0.1, gate=0.0))[0]


def test_figures_of_a_patient_are_at_the_point_chosen_on_others(predictions, fitted):
    """A part whose positives score lowest: without them the gate is higher, and closes on them."""
    parts = patient_parts(predictions.dataset, 5, 2024)
    truth = np.array([len(image.boxes) > 0 for image in predictions.dataset.images])
    scores = np.where(truth, np.where(parts == 2, 0.3, 0.7), 0.5).astype(np.float32)
    opacity = np.where(truth[:, None, None], predictions.opacity, 200).astype(np.uint8)
    moved = replace(predictions, scores=scores, opacity=opacity)
    found = named_points(moved, fitted, 0)
    boxed = truth & (
        np.array([len(moved.boxes(row, replace(RSNA, gate=0.0)).boxes) for row in range(120)]) > 0
    )
    expected = (boxed & (parts != 2)).sum() / truth.sum()
    assert found["balanced"].point.gate == pytest.approx(0.7, abs=1e-3)
    assert found["balanced"].figures.sensitivity == pytest.approx(expected, abs=1e-4)
    assert found["balanced"].figures.specificity == 1


def test_figures_are_at_the_mix(predictions):
    point = replace(RSNA, gate=0.3)
    figures = point_figures(predictions, (point,) * 120, fold=3)
    sensitivity, specificity = rates(predictions, point)
    assert figures.sensitivity == pytest.approx(sensitivity, abs=1e-4)
    assert figures.specificity == pytest.approx(specificity, abs=1e-4)
    wrong = {name: [] for name in INFO.mix}
    for row, image in enumerate(predictions.dataset.images):
        found = predictions.boxes(row, point)
        wrong[image.category].append(false_positives([image.boxes], [found])[0])
    expected = sum(share * np.mean(wrong[name]) for name, share in INFO.mix.items())
    assert figures.false_positives == pytest.approx(expected / sum(INFO.mix.values()), abs=1e-4)
    assert (figures.images, figures.on) == (
        120,
        "RSNA images of fold 3 at the challenge's mix of classes, cross-fitted",
    )


def test_without_one_of_the_classes_all_images_count_alike(predictions):
    images = [image for image in predictions.dataset.images if image.category != "Normal"]
    rows = [row for row, image in enumerate(predictions.dataset.images) if image in images]
    fewer = replace(
        predictions,
        dataset=Dataset(tuple(images)),
        opacity=predictions.opacity[rows],
        scores=predictions.scores[rows],
    )
    figures = point_figures(fewer, (RSNA,) * len(rows), fold=3)
    assert figures.on == "RSNA images of fold 3, cross-fitted"
    boxed = [len(fewer.boxes(row, RSNA).boxes) > 0 for row in range(len(rows))]
    negative = [not len(image.boxes) for image in images]
    empty = np.mean([not box for box, without in zip(boxed, negative, strict=True) if without])
    assert figures.specificity == pytest.approx(empty, abs=1e-4)


def decision(*boxes):
    scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
    return Decision(geometry.as_boxes(boxes), scores, np.zeros(len(boxes), np.int64))


def test_a_box_without_a_true_one_of_its_own_is_a_false_positive():
    truth = [geometry.as_boxes([(0, 0, 100, 50)]), geometry.as_boxes([])]
    # A hit, a second box on the same truth, IoU of 0.39, a hit at 0.4, one on nothing.
    assert false_positives(truth, [decision((0, 0, 100, 50), (0, 0, 90, 50)), decision()])[0] == 1
    assert false_positives(truth, [decision((0, 0, 39, 50)), decision()]).tolist() == [1, 0]
    assert false_positives(truth, [decision((0, 0, 41, 50)), decision()]).tolist() == [0, 0]
    assert false_positives(truth, [decision(), decision((5, 5, 9, 9))]).tolist() == [0, 1]
