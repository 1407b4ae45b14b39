"""Calibration of image scores: order, inverse, and the prior shift, for any values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lungbox.boxes import OperatingPoint
from lungbox.weights.calibration import Calibration, logit, sigmoid
from lungbox.weights.entries import Ensemble
from lungbox.weights.entry import ManifestError

slopes = st.floats(0.05, 20)
shares = st.floats(0.001, 0.999)
calibrations = st.builds(
    Calibration,
    slope=slopes,
    slope_of_complement=st.none() | slopes,
    intercept=st.floats(-10, 10),
    prevalence=shares,
)


def test_platt_and_beta_by_hand():
    score = 0.8
    platt = Calibration(slope=0.5, intercept=-1)
    assert platt(score) == pytest.approx(1 / (1 + math.exp(1 - 0.5 * math.log(4))))
    # exp(-1) * 0.8 ** 0.5 / 0.2 ** 2: the odds of Kull et al., equation 5
    odds = math.exp(-1) * 0.8**0.5 / 0.2**2
    beta = Calibration(slope=0.5, slope_of_complement=2, intercept=-1)
    assert beta(score) == pytest.approx(odds / (1 + odds))


@given(calibrations, st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_the_order_of_scores_stays(calibration, scores):
    ordered = np.sort(scores)
    found = calibration.probabilities(ordered)
    assert np.all(np.diff(found) >= 0)
    assert np.all((found >= 0) & (found <= 1))
    assert found.tolist() == [calibration(score) for score in ordered]


@given(calibrations, st.floats(0.001, 0.999))
def test_the_inverse_has_the_probability(calibration, score):
    probability = calibration(score)
    if 1e-9 < probability < 1 - 1e-9:
        assert calibration(calibration.inverse(probability)) == pytest.approx(probability, rel=1e-9)
    assert (calibration.inverse(0.0), calibration.inverse(1.0)) == (0, 1)


def test_a_probability_that_no_score_has():
    calibration = Calibration(slope=0.1, intercept=0)
    assert 0.1 < calibration(0) < calibration(1) < 0.9
    assert (calibration.inverse(0.1), calibration.inverse(0.9)) == (0, 1)


@given(calibrations, shares, st.floats(0.01, 0.99))
def test_the_prior_shift_is_bayes_theorem(calibration, prevalence, score):
    """The likelihood ratio of a score is the same at every prevalence."""
    shifted = calibration.at_prevalence(prevalence)
    before, after = calibration(score), shifted(score)
    if min(before, 1 - before, after, 1 - after) > 1e-9:
        ratio = before / (1 - before) / (calibration.prevalence / (1 - calibration.prevalence))
        assert after / (1 - after) == pytest.approx(ratio * prevalence / (1 - prevalence), rel=1e-6)
    back = shifted.at_prevalence(calibration.prevalence)
    assert back.intercept == pytest.approx(calibration.intercept, abs=1e-9)
    assert (after > before) == (prevalence > calibration.prevalence) or after == before


@given(st.floats(-700, 700))
def test_sigmoid_and_logit(x):
    value = float(sigmoid(x))
    assert 0 <= value <= 1
    if abs(x) < 30:
        assert logit(value) == pytest.approx(x, abs=1e-3)


def test_extreme_scores_do_not_overflow():
    steep = Calibration(slope=200, intercept=0)
    assert steep(5e-324) == steep(0) == 0
    assert steep(math.nextafter(1, 0)) == steep(1) == 1


ENSEMBLE = Ensemble(
    members=("a",),
    gate=0.8,
    calibration=Calibration(slope=0.8, intercept=-1.2, prevalence=0.225),
    operating_points={"low": {"rule": "threshold", "gate": 0.3, "threshold": 0.2}},
)


@given(st.floats(0.01, 0.99), st.none() | shares, st.floats(0.01, 0.99))
def test_a_gate_is_on_the_scale_that_is_written(gate, prevalence, score):
    point, calibration = ENSEMBLE.settings("low", gate, prevalence)
    assert (point.threshold, point.rule) == (0.2, "threshold")
    written = calibration(score)
    if abs(written - gate) > 1e-6:
        assert (score >= point.gate) == (written >= gate)


@given(shares)
def test_a_prevalence_does_not_move_an_operating_points_own_gate(prevalence):
    point, calibration = ENSEMBLE.settings(prevalence=prevalence)
    assert point == ENSEMBLE.point
    assert calibration.prevalence == prevalence


def test_without_a_calibration_a_gate_is_an_image_score():
    plain = Ensemble(members=("a",), gate=0.8)
    assert plain.settings(gate=0.25) == (OperatingPoint("argmax", gate=0.25), None)
    assert plain.settings(gate=0.0)[0].gate == 0


@pytest.mark.parametrize(
    ("ensemble", "options", "sentence"),
    [
        (ENSEMBLE, {"gate": 1.01}, "gate 1.01: give an image score, from 0 to 1"),
        (ENSEMBLE, {"gate": math.nan}, "gate nan"),
        (ENSEMBLE, {"prevalence": 0.0}, "prevalence 0: give a share above 0 and below 1"),
        (ENSEMBLE, {"prevalence": 5.0}, "prevalence 5"),
        (ENSEMBLE, {"operating_point": "lwo"}, "did you mean low"),
        (Ensemble(members=("a",)), {"prevalence": 0.1}, "this ensemble's does not"),
        (
            Ensemble(members=("a",), calibration=Calibration(slope=2)),
            {"prevalence": 0.1},
            "this ensemble's does not",
        ),
    ],
)
def test_values_that_mean_nothing_are_refused(ensemble, options, sentence):
    with pytest.raises(ManifestError, match=sentence):
        ensemble.settings(**options)


@pytest.mark.parametrize("values", [{"slope": float("inf")}, {"intercept": float("nan")}])
def test_numbers_that_are_not_finite_are_refused(values):
    with pytest.raises(ValidationError, match="finite"):
        Calibration(**values)
