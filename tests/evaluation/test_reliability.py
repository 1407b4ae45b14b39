"""Reliability of image scores: whose calibration, at which prevalence, with which weights."""

from dataclasses import replace

import numpy as np
import pytest

from lungbox.boxes import OperatingPoint
from lungbox.datasets.rsna import INFO
from lungbox.datasets.types import Dataset
from lungbox.evaluation.evaluator import DatasetResult, EvaluationResult
from lungbox.evaluation.operating_point import CrossFit
from lungbox.evaluation.reliability import how_calibrated, score_reliability
from lungbox.evaluation.scores import score_predictions
from lungbox.evaluation.tuned import Tuned
from lungbox.weights.calibration import Calibration
from tests.evaluation.drawn import drawn_maps

POINT = OperatingPoint("threshold", 0.45, gate=0.5)
OWN = Calibration(slope=0.7, intercept=-0.8, prevalence=0.2253, folds=(1, 2))


def part(predictions):
    scored = score_predictions(predictions, (POINT,) * len(predictions.dataset))
    return DatasetResult(predictions, scored, scored)


def of_source(predictions, source, keep):
    """Some of the images, as another data set's."""
    rows = [row for row in range(len(predictions.dataset)) if keep(row)]
    images = [replace(predictions.dataset.images[row], source=source, category="") for row in rows]
    return replace(
        predictions,
        dataset=Dataset(tuple(images)),
        opacity=predictions.opacity[rows],
        scores=predictions.scores[rows],
    )


@pytest.fixture(scope="module")
def result():
    challenge, other = drawn_maps(150), drawn_maps(90, seed=8)
    fitted = CrossFit(POINT, (POINT,) * 150)
    return EvaluationResult(
        ensemble="one",
        fold=0,
        ran_on="",
        fitted=fitted,
        own=POINT,
        own_calibration=OWN,
        tuned=Tuned.on(challenge, fitted, 0),
        challenge=part(challenge),
        others={
            # 30 with an opacity of 50, and none of 60.
            "many": part(of_source(other, "many", lambda row: row % 3 == 2 or row < 30)),
            "none": part(of_source(other, "none", lambda row: row % 3 != 2)),
        },
    )


def by_hand(truth, scores, weights):
    """The error as Guo et al. define it, bin by bin."""
    error = 0.0
    for bin_ in range(10):
        inside = (scores * 10).astype(int).clip(0, 9) == bin_
        if weights[inside].sum():
            confidence = np.average(scores[inside], weights=weights[inside])
            observed = np.average(truth[inside], weights=weights[inside])
            error += weights[inside].sum() * abs(confidence - observed)
    return error / weights.sum()


def errors(result):
    return {(one.dataset, one.kind): one for one in score_reliability(result)}


def facts(of_part):
    images = of_part.predictions.dataset.images
    category = np.array([image.category for image in images])
    counts = {name: (category == name).sum() for name in set(category)}
    weights = np.array([INFO.mix.get(name, 1) / counts[name] for name in category])
    truth = np.array([len(image.boxes) > 0 for image in images])
    return truth, of_part.predictions.scores.astype(float), weights


def test_a_calibration_of_other_folds_is_used_as_it_is(result):
    found = errors(result)
    truth, scores, weights = facts(result.challenge)
    for kind, values in (("image score", scores), ("calibrated", OWN.probabilities(scores))):
        error = found["RSNA", kind].error
        assert error.value == pytest.approx(by_hand(truth, values, weights))
        assert 0 < error.low < error.high < 1
        assert error.images == 150
    assert how_calibrated(result).endswith("own calibration, which was fitted on fold 1, 2.")


@pytest.mark.parametrize("folds", [(0,), (0, 1), ()])
def test_one_that_has_seen_the_fold_or_may_have_is_cross_fitted(result, folds):
    own = OWN.model_copy(update={"folds": folds})
    seen = replace(result, own_calibration=own)
    truth, _, weights = facts(result.challenge)
    error = errors(seen)["RSNA", "calibrated"].error
    assert error.value == pytest.approx(by_hand(truth, result.tuned.fit.cross_fitted, weights))
    assert error.value != errors(result)["RSNA", "calibrated"].error.value
    assert "by a calibration that was fitted on the fold's other patients" in how_calibrated(seen)


def test_other_data_sets_are_at_their_own_prevalence(result):
    found = errors(result)
    truth, scores, weights = facts(result.others["many"])
    prevalence = truth.mean()
    assert prevalence == pytest.approx(30 / 50)
    odds = prevalence / (1 - prevalence) / (0.2253 / 0.7747)
    before = OWN.probabilities(scores)
    converted = before * odds / (before * odds + 1 - before)
    error = found["many", "calibrated, at its prevalence 0.600"].error
    assert error.value == pytest.approx(by_hand(truth, converted, weights))
    assert {dataset for dataset, _ in found} == {"RSNA", "many"}


def test_without_a_calibration_there_are_the_scores_alone(result):
    without = replace(result, own_calibration=None, tuned=replace(result.tuned, fit=None))
    assert list(errors(without)) == [("RSNA", "image score"), ("many", "image score")]
    assert how_calibrated(without) == "There is no calibration."
