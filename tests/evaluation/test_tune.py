"""`lungbox tune`: what it refuses, what it chooses, and that it leaves an ensemble that runs."""

import tomllib
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import lungbox
from lungbox.boxes import OperatingPoint
from lungbox.cli import main
from lungbox.datasets.phantom import write_rsna
from lungbox.evaluation import operating_point, tune
from lungbox.evaluation.estimates import MetricEstimate
from lungbox.evaluation.evaluator import EvaluationConfig
from lungbox.evaluation.operating_point import SearchGrid
from lungbox.evaluation.tune import TuningCandidate, best_candidate
from lungbox.metrics.bootstrap import Draws
from lungbox.weights.entries import Manifest
from lungbox.weights.manifest import load_manifest
from tests.evaluation.drawn import drawn_maps
from tests.tiny import enter_tiny

pytestmark = pytest.mark.usefixtures("small_networks")


def tuned(capfd, *arguments):
    with pytest.raises(SystemExit) as ended:
        main.main(["tune", *map(str, arguments)])
    said = capfd.readouterr()
    return int(ended.value.code or 0), said.out + said.err


@pytest.fixture
def data(tmp_path):
    write_rsna(tmp_path / "data", count=60, size=96)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _small(own_home, tmp_path, monkeypatch):
    enter_tiny(tmp_path)
    grid = SearchGrid(thresholds=(0.4, 0.6), min_areas=(0.001,), shrinks=(0.05,), gates=5)
    monkeypatch.setattr(tune, "SearchGrid", lambda: grid)
    monkeypatch.setattr(tune, "WIDE_GRID", replace(grid, max_one_box_per_lung=(False, True)))
    monkeypatch.setattr(operating_point, "RESAMPLES", 20)


def test_the_result_is_entered_and_runs(capfd, data):
    code, said = tuned(capfd, "--data", data, "--ensemble", "tiny", "--save", "better")
    assert code == 0, said
    for name in ("as it is", "everything", "cross-fitted"):
        assert name in said
    ensemble = load_manifest().ensemble("better")
    assert ensemble.members == ("tiny",)
    assert ensemble.shrink == 0.05
    assert "fold 0" in ensemble.note
    assert load_manifest().ensemble("tiny").note == ""
    image = next((data / "images").iterdir())
    assert lungbox.load("better").predict(image).size == (96, 96)


def test_folds_that_were_seen_are_refused(capfd, data):
    code, said = tuned(capfd, "--data", data, "--ensemble", "tiny", "--fold", 2)
    assert code == 2
    assert "tiny was trained on fold 2, or chosen by its score there; give one of 0" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--ensemble", "reference"), "whose values are fixed"),
        (("--ensemble", "tiny", "--save", "default"), "a name of Lungbox's own"),
        (("--ensemble", "tny"), "did you mean tiny"),
    ],
)
def test_what_cannot_be_tuned(capfd, data, arguments, sentence):
    code, said = tuned(capfd, "--data", data, *arguments)
    assert code == 2
    assert sentence in said
    assert "Traceback" not in said


def test_without_classes_there_is_no_mix(capfd, data):
    (data / "stage_2_detailed_class_info.csv").unlink()
    code, said = tuned(capfd, "--data", data, "--ensemble", "tiny")
    assert code == 2
    assert "stage_2_detailed_class_info.csv" in said


def test_more_must_be_worth_its_price():
    draws = Draws.over(np.arange(4))

    def choice(name, value):
        estimate = MetricEstimate.of(name, draws.ratio(np.full(4, value), np.ones(4)), 4)
        return TuningCandidate(name, OperatingPoint(), False, estimate)

    now = choice("now", 0.9)  # chosen on the same patients: no rival
    plain, little, much = choice("plain", 0.5), choice("little", 0.505), choice("much", 0.52)
    assert best_candidate([now, plain, little]).name == "plain"
    assert best_candidate([now, plain, little, much]).name == "much"
    assert best_candidate([now, plain, much, little]).name == "much"


@pytest.fixture
def searched(monkeypatch):
    """Makes a search end with these: what the ensemble has, and one choice, read mirrored."""
    draws = Draws.over(np.arange(4))
    predictions = drawn_maps()
    monkeypatch.setattr(tune, "_both_predictions", lambda *_: (predictions, predictions))

    def ends(now, found):
        point = OperatingPoint(
            "threshold", 0.35, 0.0075, 0.0625, gate=0.4, max_one_box_per_lung=True
        )
        values = (("as it is", OperatingPoint(), False, now), ("search", point, True, found))
        choices = [
            TuningCandidate(
                *facts,
                MetricEstimate.of("", draws.ratio(np.full(4, v), np.ones(4)), 4),
                (facts[1],) * len(predictions.dataset),
            )
            for *facts, v in values
        ]
        monkeypatch.setattr(tune, "_candidates", lambda *_: choices)
        return choices[1]

    return ends


def entered(name):
    ensemble = load_manifest().ensemble(name)
    return ensemble.point, ensemble.flip, ensemble.members


def test_what_is_chosen_is_entered_whole(searched):
    choice = searched(now=0.5, found=0.6)
    tune.tune(EvaluationConfig(None, 0, "tiny"), None, Console(quiet=True))
    assert entered("tiny") == (choice.point, True, ("tiny",))
    ensemble = load_manifest().ensemble("tiny")
    assert "0.600 (0.600 to 0.600)" in ensemble.note
    assert set(ensemble.operating_points) == {"rsna", "balanced", "sensitive"}
    assert ensemble.operating_points["rsna"].point == choice.point
    figures = ensemble.operating_points["sensitive"].figures
    assert figures.on == "RSNA images of fold 0 at the challenge's mix of classes, cross-fitted"
    assert (ensemble.calibration.folds, ensemble.calibration.prevalence) == ((0,), 0.2253)


def test_what_is_printed_is_what_is_entered(searched, capsys):
    """The TOML can be pasted into a manifest."""
    searched(now=0.5, found=0.6)
    tune.tune(EvaluationConfig(None, 0, "tiny"), "pasted", Console(quiet=True))
    printed = capsys.readouterr().out.split("Chosen: search\n")[1]
    text = f'[ensembles.pasted]\nmembers = ["tiny"]\n{printed}'
    pasted = Manifest.model_validate(tomllib.loads(text)).ensembles["pasted"]
    entered_ = load_manifest().ensemble("pasted")
    assert pasted.model_copy(update={"note": entered_.note}) == entered_


def test_what_is_worse_is_entered_only_under_a_name_of_its_own(searched):
    choice = searched(now=0.6, found=0.5)
    before = entered("tiny")
    tune.tune(EvaluationConfig(None, 0, "tiny"), None, Console(quiet=True))
    assert entered("tiny") == before
    tune.tune(EvaluationConfig(None, 0, "tiny"), "worse", Console(quiet=True))
    assert entered("tiny") == before
    assert entered("worse") == (choice.point, True, ("tiny",))
