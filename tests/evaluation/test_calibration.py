"""Fitted calibrations: scikit-learn's, and on patients that they were not fitted on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from lungbox.datasets.rsna import INFO
from lungbox.evaluation.calibration import cross_fit_calibration, fit_calibration
from lungbox.evaluation.operating_point import mix_weights, patient_parts
from lungbox.weights.calibration import Calibration, sigmoid
from tests.evaluation.drawn import drawn_maps


def drawn(count=400, seed=3, slope=0.6, slope_of_complement=0.6, intercept=-1.0):
    """Scores, and truth that is drawn from their calibrated probabilities."""
    random = np.random.default_rng(seed)
    scores = sigmoid(random.normal(0, 2.5, count))
    true = Calibration(
        slope=slope, slope_of_complement=slope_of_complement, intercept=intercept
    ).probabilities(scores)
    return scores, random.random(count) < true, random.uniform(0.2, 3, count)


def test_platt_is_that_of_scikit_learn():
    scores, truth, weights = drawn()
    logits = np.log(scores / (1 - scores))[:, None]
    # Its decision function is the logit itself.
    identity = LogisticRegression().fit(logits, truth)
    identity.coef_, identity.intercept_ = np.array([[1.0]]), np.array([0.0])
    theirs = CalibratedClassifierCV(FrozenEstimator(identity), method="sigmoid")
    scaled = weights * len(weights) / weights.sum()
    # It warns that the weights only count in the calibration, which is meant.
    with pytest.warns(UserWarning, match="only be used for the calibration itself"):
        theirs.fit(logits, truth, sample_weight=scaled)
    ours = fit_calibration(scores, truth, weights)
    found, expected = ours.probabilities(scores), theirs.predict_proba(logits)[:, 1]
    assert found == pytest.approx(expected, abs=1e-4)
    assert ours.prevalence == pytest.approx(weights[truth].sum() / weights.sum(), abs=1e-4)


@pytest.mark.parametrize("beta", [False, True])
def test_it_is_the_maximum_of_the_likelihood(beta):
    """Logistic regression without a penalty, on so many images that targets are near 0 and 1."""
    scores, truth, weights = drawn(20000, slope=0.5, slope_of_complement=1.2)
    features = np.column_stack([np.log(scores), -np.log1p(-scores)])
    if not beta:
        features = features.sum(axis=1, keepdims=True)
    theirs = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000).fit(features, truth, weights)
    ours = fit_calibration(scores, truth, weights, beta)
    assert ours.slope == pytest.approx(theirs.coef_[0, 0], rel=0.01)
    assert ours.intercept == pytest.approx(theirs.intercept_[0], abs=0.01)
    if beta:
        assert ours.slope_of_complement == pytest.approx(theirs.coef_[0, 1], rel=0.01)
        assert (ours.slope, ours.slope_of_complement) == pytest.approx((0.5, 1.2), rel=0.15)
    else:
        assert ours.slope_of_complement is None


@settings(deadline=None)
@given(st.floats(0.3, 2), st.floats(-2, 2), st.integers(0, 2**31))
def test_probabilities_have_the_right_mean(slope, intercept, seed):
    """As the intercept's derivative is 0 at the maximum, but for Platt's targets."""
    scores, truth, weights = drawn(300, seed, slope, slope, intercept)
    found = fit_calibration(scores, truth, weights)
    if found:
        mean = weights @ found.probabilities(scores) / weights.sum()
        assert mean == pytest.approx(weights @ truth / weights.sum(), abs=0.008)


def test_scores_that_separate_exactly_have_a_finite_calibration():
    scores = np.linspace(0.01, 0.99, 40)
    found = fit_calibration(scores, scores > 0.5, np.ones(40))
    assert 0 < found.slope < 100


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        (np.linspace(0.9, 0.1, 30), np.arange(30) > 15),
        (np.full(30, 0.5), np.arange(30) > 15),
        (np.linspace(0.1, 0.9, 30), np.zeros(30, bool)),
        (np.linspace(0.1, 0.9, 30), np.ones(30, bool)),
    ],
    ids=["reversed", "all alike", "no positive", "no negative"],
)
@pytest.mark.parametrize("beta", [False, True])
def test_scores_that_tell_nothing_have_none(scores, truth, beta):
    assert fit_calibration(scores, truth, np.ones(30), beta) is None


def test_scores_of_zero_and_one_are_taken():
    scores, truth, weights = drawn(100)
    scores[:5], scores[-5:] = 0.0, 1.0
    found = fit_calibration(scores, truth, weights)
    assert np.isfinite([found.slope, found.intercept]).all()


@pytest.fixture(scope="module")
def predictions():
    return drawn_maps(count=150)


def test_each_patient_by_the_calibration_of_the_others(predictions):
    fit, row = cross_fit_calibration(predictions, fold=2), 19
    dataset, scores = predictions.dataset, predictions.scores
    truth = np.array([len(image.boxes) > 0 for image in dataset.images])
    weights, parts = mix_weights(dataset), patient_parts(dataset, 5, 2024)
    rest = parts != parts[row]
    others = fit_calibration(
        scores[rest], truth[rest], weights[rest], beta=fit.method == "beta calibration"
    )
    assert fit.cross_fitted[row] == others(float(scores[row]))
    assert fit.cross_fitted[row] != fit.calibration(float(scores[row]))
    assert fit.calibration.folds == (2,)
    assert fit.calibration.note == (
        f"{fit.method} on the 150 RSNA images of fold 2, at the challenge's mix of classes"
    )
    # Of opacity in the challenge; a third of these images have one.
    assert fit.calibration.prevalence == pytest.approx(INFO.mix["Lung Opacity"], abs=1e-4)
    assert fit.log_losses[fit.method] == min(fit.log_losses.values())
    expected = log_loss(truth, fit.cross_fitted, sample_weight=weights)
    assert fit.log_losses[fit.method] == pytest.approx(expected)


def test_other_patients_scores_do_not_move_a_part(predictions):
    """No leak: whatever the scores of a part, its own calibration stays."""
    parts = patient_parts(predictions.dataset, 5, 2024)
    changed = predictions.scores.copy()
    changed[parts == 1] = 1 - changed[parts == 1]
    before, after = (
        cross_fit_calibration(one, 0) for one in (predictions, replace(predictions, scores=changed))
    )
    truth = np.array([image.target for image in predictions.dataset.images])
    weights, others = mix_weights(predictions.dataset), parts != 1
    for fit, scores in ((before, predictions.scores), (after, changed)):
        beta = fit.method == "beta calibration"
        own = fit_calibration(predictions.scores[others], truth[others], weights[others], beta)
        expected = own.probabilities(scores[~others])
        assert fit.cross_fitted[~others] == pytest.approx(expected, abs=1e-9)
