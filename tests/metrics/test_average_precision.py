"""VOC's mean average precision against a published implementation, and by hand."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungbox.boxes import geometry
from lungbox.metrics import BoxTable, VocMatches, mean_over_classes, voc_map

CLASSES = 3


def table(*boxes):
    """`image, class, score, x1, y1, x2, y2`, any order."""
    rows = np.array(boxes, np.float64).reshape(-1, 7)
    return BoxTable(
        images=rows[:, 0].astype(int),
        boxes=geometry.as_boxes(rows[:, 3:]),
        scores=rows[:, 2],
        classes=rows[:, 1].astype(int),
    )


def average_precisions(truth, predicted, images):
    matches = VocMatches.of(truth, predicted)
    values = matches.average_precisions(np.ones((1, images)))[0]
    return dict(zip(matches.classes.tolist(), values.tolist(), strict=True))


def test_by_hand():
    # Two truths; hit, miss, hit: precision 1 up to recall 1/2, then 2/3.
    truth = table((0, 0, 1, 0, 0, 10, 10), (1, 0, 1, 0, 0, 10, 10))
    predicted = table(
        (1, 0, 0.2, 0, 0, 10, 9), (0, 0, 0.9, 0, 0, 10, 10), (1, 0, 0.5, 50, 50, 60, 60)
    )
    assert average_precisions(truth, predicted, 2) == {0: pytest.approx(0.5 + 0.5 * 2 / 3)}


def test_precision_is_the_largest_further_on():
    # Miss, hit, hit: precision 1/2 and 2/3 at the hits; both count 2/3.
    truth = table((0, 0, 1, 0, 0, 10, 10), (0, 0, 1, 20, 0, 30, 10))
    predicted = table(
        (0, 0, 0.9, 50, 0, 60, 10), (0, 0, 0.8, 0, 0, 10, 10), (0, 0, 0.7, 20, 0, 30, 10)
    )
    assert average_precisions(truth, predicted, 1) == {0: pytest.approx(2 / 3)}


def test_an_iou_of_exactly_the_threshold_is_no_hit():
    truth = table((0, 0, 1, 0, 0, 10, 10))
    assert voc_map(truth, table((0, 0, 1, 0, 0, 10, 4)), 1) == 0
    assert voc_map(truth, table((0, 0, 1, 0, 0, 10, 5)), 1) == 1


def test_a_prediction_whose_best_truth_is_taken_is_a_miss():
    """Although it would reach another that is still free."""
    truth = table((0, 0, 1, 0, 0, 10, 10), (0, 0, 1, 0, 0, 10, 8))
    predicted = table((0, 0, 0.9, 0, 0, 10, 10), (0, 0, 0.8, 0, 0, 10, 9.5))
    assert average_precisions(truth, predicted, 1) == {0: 0.5}


def test_classes_without_truth_are_left_out():
    truth = table((0, 1, 1, 0, 0, 10, 10), (1, 5, 1, 0, 0, 10, 10))
    predicted = table((0, 1, 0.5, 0, 0, 10, 10), (0, 0, 0.9, 0, 0, 10, 10))
    assert average_precisions(truth, predicted, 2) == {1: 1, 5: 0}
    assert voc_map(truth, predicted, 2) == 0.5
    assert math.isnan(voc_map(table(), predicted, 2))


def random_case(seed):
    """Truth, and predictions that are near some of it; no two are equally certain."""
    random = np.random.default_rng(seed)
    corner = random.integers(0, 60, (40, 2))
    boxes = np.concatenate([corner, corner + random.integers(10, 50, (40, 2))], axis=1)
    images, classes = random.integers(0, 12, 40), random.integers(0, CLASSES, 40)
    truth = np.column_stack([images, classes, np.ones(40), boxes])
    moved = truth[random.integers(0, 40, 70)]
    moved[:, 3:] += random.integers(-8, 9, (70, 4))
    moved[:, 2] = random.permutation(70) / 70
    other = random.random(70) < 0.2
    moved[other, 1] = random.integers(0, CLASSES, other.sum())
    return truth, moved


@pytest.mark.parametrize("seed", range(8))
def test_equals_mean_average_precision(seed):
    """bes-dev/mean_average_precision counts both edges of a box as pixels, hence the 1."""
    theirs = pytest.importorskip("mean_average_precision").MetricBuilder
    truth, predicted = random_case(seed)
    metric = theirs.build_evaluation_metric("map_2d", num_classes=CLASSES)
    with warnings.catch_warnings():
        # It joins empty tables, which pandas is going to treat otherwise.
        warnings.simplefilter("ignore")
        for image in range(12):
            found, true = (rows[rows[:, 0] == image] for rows in (predicted, truth))
            metric.add(
                np.column_stack([found[:, 3:] - (0, 0, 1, 1), found[:, 1], found[:, 2]]),
                np.column_stack([true[:, 3:] - (0, 0, 1, 1), true[:, 1], np.zeros((len(true), 2))]),
            )
        expected = metric.value(iou_thresholds=0.4)[0.4]
    ours = average_precisions(table(*truth), table(*predicted), 12)
    assert ours == {
        number: pytest.approx(float(expected[number]["ap"]), abs=1e-6) for number in ours
    }
    assert 0.2 < np.mean(list(ours.values())) < 0.95


@settings(deadline=None)
@given(st.integers(0, 50), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_weights_are_copies_of_images(seed, copies):
    """An image of weight 3 counts as three images with the same boxes."""
    truth, predicted = random_case(seed)
    matches = VocMatches.of(table(*truth), table(*predicted))
    found = matches.average_precisions(np.array([copies]))
    expected = average_precisions(copied(truth, copies), copied(predicted, copies), 36)
    for number, value in zip(matches.classes.tolist(), found[0].tolist(), strict=True):
        assert value == pytest.approx(expected.get(number, math.nan), nan_ok=True)


def copied(rows, copies):
    """Each box as often as its image is copied, on images of their own."""
    return table(
        *((row[0] * 3 + copy, *row[1:]) for row in rows for copy in range(copies[int(row[0])]))
    )


def test_the_mean_leaves_out_what_is_not_defined():
    values = np.array([[0.5, np.nan, 1.0], [np.nan, np.nan, np.nan]])
    assert mean_over_classes(values) == pytest.approx([0.75, math.nan], nan_ok=True)
