"""What `evaluate` prints for the manifest is what the manifest reads."""

import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from lungbox.errors import LungboxError
from lungbox.evaluation.evaluator import EvaluationConfig
from lungbox.evaluation.markdown import print_evaluation
from lungbox.evaluation.operating_point import SearchGrid, cross_fit
from lungbox.evaluation.tuned import Tuned
from lungbox.weights.entries import Ensemble
from tests.evaluation.drawn import drawn_maps

GRID = SearchGrid(thresholds=(0.3, 0.6), min_areas=(0.001,), shrinks=(0.05,), gates=8)


@pytest.mark.parametrize("name", ["mine", "my.v2", "lite0-1a2b"])
def test_the_printed_tables_are_those_of_the_ensemble(name):
    """Also where the name has a dot, which separates tables in TOML."""
    predictions = drawn_maps(count=90, seed=5)
    tuned = Tuned.on(predictions, cross_fit(predictions, GRID), fold=2)
    head, _, tables = tuned.to_toml(name).partition("\n\n")
    read = tomllib.loads(tables)["ensembles"]
    assert list(read) == [name]
    entry = Ensemble(members=("lite0",), **tomllib.loads(head), **read[name])
    assert entry == tuned.changed(Ensemble(members=("lite0",)))
    assert entry.calibration == tuned.calibration
    assert set(entry.operating_points) == {"rsna", "balanced", "sensitive"}


@pytest.mark.parametrize("options", [{"gate": 0.4}, {"operating_point": "balanced"}])
def test_a_comparison_has_no_operating_point_of_its_own(options):
    config = EvaluationConfig(Path("absent"), 0, "default", **options)
    with pytest.raises(LungboxError, match="--against compares each ensemble at the points"):
        print_evaluation(config, Console(quiet=True), against="reference")
