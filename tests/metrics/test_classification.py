"""Image-level metrics against scikit-learn, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from lungbox.metrics import (
    auc,
    expected_calibration_error,
    reliability,
    roc_curve,
    sensitivity_specificity,
    weighted_auc,
    weighted_calibration_error,
)

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=60)


def apart(pairs):
    targets, scores = (np.array(values) for values in zip(*pairs, strict=True))
    return targets, scores


@given(PAIRS)
def test_equals_scikit_learn(pairs):
    targets, scores = apart(pairs)
    if targets.all() or not targets.any():
        assert math.isnan(auc(targets, scores))
    else:
        assert auc(targets, scores) == pytest.approx(roc_auc_score(targets, scores))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_weights_are_copies(rows):
    targets, scores, copies = (np.array(values) for values in zip(*rows, strict=True))
    expected = auc(np.repeat(targets, copies), np.repeat(scores, copies))
    found = weighted_auc(targets, scores, np.array([copies, np.ones(len(rows))]))
    assert found == pytest.approx([expected, auc(targets, scores)], nan_ok=True)


@given(PAIRS)
def test_the_curve_is_scikit_learns(pairs):
    targets, scores = apart(pairs)
    found = roc_curve(targets, scores)
    if targets.all() or not targets.any():
        missing = found.false_positive_rate if targets.all() else found.sensitivity
        assert np.isnan(missing).all()
        return
    false, true, thresholds = sklearn_metrics.roc_curve(targets, scores, drop_intermediate=False)
    assert found.false_positive_rate == pytest.approx(false)
    assert found.sensitivity == pytest.approx(true)
    assert found.thresholds == pytest.approx(thresholds)


def test_sensitivity_and_specificity():
    targets, scores = [1, 1, 1, 0, 0], [0.9, 0.5, 0.2, 0.5, 0.1]
    assert sensitivity_specificity(targets, scores, 0.5) == pytest.approx((2 / 3, 1 / 2))
    assert sensitivity_specificity(targets, scores, 0.51) == pytest.approx((1 / 3, 1))
    sensitivity, specificity = sensitivity_specificity([0, 0], [0.1, 0.9], 0.5)
    assert math.isnan(sensitivity)
    assert specificity == 0.5


def test_reliability_is_scikit_learns():
    random = np.random.default_rng(3)
    scores = random.random(400)
    targets = random.random(400) < scores**2
    found = reliability(targets, scores)
    observed, confidence = calibration_curve(targets, scores, n_bins=10)
    assert found.observed == pytest.approx(observed)
    assert found.confidence == pytest.approx(confidence)
    assert found.counts.sum() == 400


def test_calibration_error_by_hand():
    # One bin of 0.2 with half positive, one of 1.0 with all positive, three to one.
    targets, scores = [0, 1, 0, 1, 1, 0, 1, 1], [0.2] * 6 + [1.0] * 2
    assert expected_calibration_error(targets, scores) == pytest.approx(0.75 * 0.3)
    found = reliability(targets, scores)
    assert found.counts.tolist() == [0, 0, 6, 0, 0, 0, 0, 0, 0, 2]
    assert np.isnan(found.observed[0])
    assert math.isnan(expected_calibration_error([], []))


def test_calibration_error_takes_ten_bins_or_as_many_as_are_asked_for():
    """0.12 and 0.18 are one of ten bins, two of twenty, and 0.32 joins them in one of two."""
    targets, scores = [0, 1, 0], [0.12, 0.18, 0.32]
    ten = (2 * abs(0.15 - 0.5) + 0.32) / 3
    assert expected_calibration_error(targets, scores) == pytest.approx(ten)
    twenty = (0.12 + 0.82 + 0.32) / 3
    assert expected_calibration_error(targets, scores, bins=20) == pytest.approx(twenty)
    two = abs(0.62 / 3 - 1 / 3)
    assert expected_calibration_error(targets, scores, bins=2) == pytest.approx(two)
    # Of eleven bins these would be the first two.
    assert expected_calibration_error([0, 1], [0.05, 0.095]) == pytest.approx(abs(0.0725 - 0.5))


def test_weighted_images_count_as_often_in_reliability_and_error():
    random = np.random.default_rng(5)
    scores, times = random.random(60), random.integers(0, 4, 60)
    targets = random.random(60) < scores**2
    repeated = (np.repeat(targets, times), np.repeat(scores, times))
    found, expected = reliability(targets, scores, weights=times), reliability(*repeated)
    np.testing.assert_allclose(found.confidence, expected.confidence)
    np.testing.assert_allclose(found.observed, expected.observed)
    assert found.counts.sum() == 60
    rows = np.stack([times, np.ones(60), np.zeros(60)])
    errors = weighted_calibration_error(targets, scores, rows)
    assert errors[0] == pytest.approx(expected_calibration_error(*repeated))
    assert errors[1] == pytest.approx(expected_calibration_error(targets, scores))
    assert math.isnan(errors[2])
    five = weighted_calibration_error(targets, scores, rows[:1], bins=5)[0]
    assert five == pytest.approx(expected_calibration_error(*repeated, bins=5))
