"""Figures are of patients that no choice has seen: on data where a leak would change them."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from rich.console import Console

from lungbox.boxes import OperatingPoint, geometry
from lungbox.constants import RSNA_CLASS_MIX, RSNA_CLASSES
from lungbox.datasets.cache import PreparedImages
from lungbox.datasets.types import Dataset
from lungbox.evaluation import evaluator, tune
from lungbox.evaluation.evaluator import EvaluationConfig
from lungbox.evaluation.groups import recall_by_size
from lungbox.evaluation.operating_point import cross_fit, image_scores, patient_parts
from lungbox.evaluation.predictions import DatasetPredictions, to_uint8
from lungbox.evaluation.scores import dataset_estimates, score_predictions
from lungbox.evaluation.sweep import sweeps
from lungbox.metrics import rsna_score
from lungbox.training import validation
from lungbox.weights.entries import Ensemble
from tests.evaluation.drawn import (
    DIVIDED,
    HIGH,
    HIGH_GAIN,
    LOW,
    LOW_GAIN,
    SIDE,
    divided_maps,
    drawn_maps,
)
from tests.training.keys import scoring_of


@pytest.fixture(scope="module")
def predictions():
    return divided_maps()


@pytest.fixture(scope="module")
def parts(predictions):
    return patient_parts(predictions.dataset, 5, 2024)


def metric(predictions, points):
    return rsna_score(image_scores(predictions, points))


def test_a_leak_would_show_on_these_maps(predictions, parts):
    count = len(predictions.dataset)
    low, high = (OperatingPoint("threshold", value, 0.001, 0.0) for value in (LOW, HIGH))
    of_low = [part for part in range(5) if part < 3]
    assert metric(predictions, [low] * count) == pytest.approx(LOW_GAIN * 3 / 5)
    assert metric(predictions, [high] * count) == pytest.approx(HIGH_GAIN * 2 / 5)
    own = [low if part in of_low else high for part in parts]
    assert metric(predictions, own) == pytest.approx((3 * LOW_GAIN + 2 * HIGH_GAIN) / 5)


def test_no_patient_is_judged_at_a_point_that_the_patient_helped_to_choose(predictions, parts):
    fitted = cross_fit(predictions, DIVIDED)
    assert fitted.point.threshold == LOW
    for part, point in zip(parts, fitted.points, strict=True):
        assert point.threshold == (HIGH if part < 3 else LOW)
    assert metric(predictions, fitted.points) == 0
    figures = {
        figure.name: figure
        for figure in dataset_estimates(score_predictions(predictions, fitted.points))
    }
    recall = "recall of boxes (IoU >= 0.4)"
    for name in ("RSNA metric, raw", "RSNA metric, challenge's mix", recall):
        assert (figures[name].low, figures[name].value, figures[name].high) == (0, 0, 0)
    assert figures[recall].images == 40


def test_another_way_of_holding_out_gives_other_points(predictions):
    """The parts follow from the seed; with these maps only those of 2024 are all wrong."""
    other = cross_fit(predictions, DIVIDED, seed=7)
    assert metric(predictions, other.points) > 0.2


def test_evaluate_judges_by_the_points_chosen_on_others(predictions, monkeypatch):
    class Divided(EvaluationConfig):
        def images(self):
            return predictions.dataset

        def start(self, console):
            return type("Running", (), {"name": "none", "precision": "float32"})

    nothing = DatasetPredictions(
        Dataset(()), np.zeros((0, 1, 1), np.uint8), np.zeros(0, np.float32)
    )
    by_source = {120: predictions, 0: nothing}
    monkeypatch.setattr(
        evaluator, "predict_with_progress", lambda dataset, *_: by_source[len(dataset)]
    )
    monkeypatch.setattr(evaluator, "SearchGrid", lambda: DIVIDED)
    found = evaluator.evaluate_ensemble(Divided(None, 0, "default"), Console(quiet=True))
    figures = {figure.name: figure.value for figure in dataset_estimates(found.challenge.scored)}
    assert figures["RSNA metric, raw"] == figures["RSNA metric, challenge's mix"] == 0
    assert found.others == {}


def test_tune_shows_what_a_search_gives_on_others(predictions, monkeypatch):
    monkeypatch.setattr(tune, "SearchGrid", lambda: DIVIDED)
    monkeypatch.setattr(tune, "WIDE_GRID", DIVIDED)
    shipped = Ensemble(members=("x",), rule="threshold", threshold=LOW, min_area=0.001, shrink=0)
    now, *searched = tune._candidates((predictions, predictions), shipped, Console(quiet=True))
    assert now.estimate.value == pytest.approx(LOW_GAIN * 3 / 5)
    assert [choice.point.threshold for choice in searched] == [LOW] * 3
    assert [choice.estimate.value for choice in searched] == [0, 0, 0]


def painted(images):
    """Pairs of image and opacity map, as prepared images that show these maps; see `mirror`."""
    dataset = Dataset(tuple(image for image, _ in images))
    pixels = np.stack([opacity for _, opacity in images])
    return PreparedImages(dataset, (), "key", pixels, np.arange(len(images)))


def mirror():
    """A network whose opacity is the gray level it is shown, and whose score is the brightest."""
    inputs = keras.Input((SIDE, SIDE, 1))
    opacity = keras.layers.Rescaling(1 / 255)(inputs)
    background = keras.layers.Rescaling(-1, offset=1)(opacity)
    mask = keras.layers.Concatenate()([background, opacity])
    return keras.Model(inputs, {"mask": mask, "image": keras.layers.GlobalMaxPooling2D()(opacity)})


def test_a_run_is_scored_at_points_chosen_on_others(predictions, monkeypatch):
    monkeypatch.setattr(validation, "_GRID", DIVIDED)
    shown = painted(list(zip(predictions.dataset.images, predictions.opacity, strict=True)))
    scoring = scoring_of(mirror(), shown, batch_size=8)
    # The brightest pixel would tell who needs which threshold.
    metrics, found = scoring._evaluate()
    scored = (metrics, found | {"image": predictions.scores[:, None]})
    monkeypatch.setattr(scoring, "_evaluate", lambda: scored)
    assert np.array_equal(to_uint8(found["mask"]), predictions.opacity)
    assert scoring.score().rsna_metric == 0


def test_a_run_is_scored_at_the_challenges_mix():
    """Every opacity is hit, every hard negative has a box. As the images are, 12 of 16 count 1."""
    images = []
    normal, hard_negative, opacity_class = RSNA_CLASSES
    for number in range(24):
        category = opacity_class if number < 12 else hard_negative if number < 16 else normal
        image = maps_image(number, category)
        opacity = np.zeros((SIDE, SIDE), np.uint8)
        if category != normal:
            x, y = number % 5 + 2, number % 7 + 2
            opacity[y : y + 16, x : x + 12] = 230
        images.append((image, opacity))
    # Five at a time: the last batch is filled up, and no image is another's.
    found = scoring_of(mirror(), painted(images), batch_size=5).score()
    hit, hard = (RSNA_CLASS_MIX[name] for name in (opacity_class, hard_negative))
    assert found.rsna_metric == pytest.approx(hit / (hit + hard))
    assert found.auc == pytest.approx((8 + 4 / 2) / 12)


def maps_image(number, category):
    x, y = number % 5 + 2, number % 7 + 2
    boxes = [(3 * x, 2 * y, 3 * (x + 12), 2 * (y + 16))] if category == RSNA_CLASSES[2] else []
    image = drawn_maps(1).dataset.images[0]
    return replace(
        image,
        identity=f"{number}",
        patient=f"p{number}",
        size=(3 * SIDE, 2 * SIDE),
        boxes=geometry.as_boxes(boxes),
        target=bool(boxes),
        category=category,
    )


@pytest.fixture(scope="module")
def copies():
    """Maps, and the same with three copies of every image."""
    predictions = drawn_maps(60)
    copied = replace(
        predictions,
        dataset=Dataset(predictions.dataset.images * 3),
        opacity=np.concatenate([predictions.opacity] * 3),
        scores=np.concatenate([predictions.scores] * 3),
    )
    return predictions, copied


POINT = OperatingPoint("threshold", 0.35, 0.01, 0.0, gate=0.3)


def test_more_images_of_the_same_patients_make_no_interval_narrower(copies):
    scored = [
        score_predictions(predictions, [POINT] * len(predictions.dataset)) for predictions in copies
    ]
    once, thrice = ([*dataset_estimates(of), *recall_by_size(of)] for of in scored)
    wide = 0
    for one, three in zip(once, thrice, strict=True):
        assert (three.value, three.low, three.high) == pytest.approx(
            (one.value, one.low, one.high), nan_ok=True
        ), one.name
        wide += one.high - one.low > 0.05
    assert wide > 8


def test_nor_those_of_curves_and_of_tuning(copies, monkeypatch):
    curves = [sweeps(predictions, POINT)[1] for predictions in copies]
    once, thrice = (curve.raw + curve.mix for curve in curves)
    shipped = Ensemble(members=("x",), **vars(POINT))
    monkeypatch.setattr(tune, "SearchGrid", lambda: DIVIDED)
    monkeypatch.setattr(tune, "WIDE_GRID", DIVIDED)
    tuned = [
        tune._candidates((predictions, predictions), shipped, Console(quiet=True))[0]
        for predictions in copies
    ]
    once, thrice = [*once, tuned[0].estimate.estimate], [*thrice, tuned[1].estimate.estimate]
    assert len(once) == 2 * 19 + 1
    for one, three in zip(once, thrice, strict=True):
        assert three.interval == pytest.approx(one.interval)
    assert np.ptp(once[-1].interval) > 0.05
