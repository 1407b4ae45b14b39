"""Keys of the task: boxes of lung opacity, or of several findings."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from lungbox.boxes.geometry import as_boxes
from lungbox.datasets.types import DatasetError
from lungbox.training import data
from lungbox.training.batches import Batches
from lungbox.training.loggers import best_epoch, read_log
from lungbox.training.model import build_trainable
from lungbox.training.recipe import RecipeError
from lungbox.training.run import run
from lungbox.training.run_folder import RunFolder
from lungbox.weights.manifest import load_manifest
from tests.small_detectors import registered_detectors
from tests.training import runs
from tests.training.keys import checks, recipe_of
from tests.training.runs import config_of
from tests.training.test_keys_data import read, written

SIDE = 64
BOXES = as_boxes([(6, 8, 24, 48), (30, 10, 50, 60), (3, 3, 9, 12)])
NAMES = ("ILD", "Nodule/Mass", "ILD")


@pytest.fixture(scope="module", autouse=True)
def detectors():
    with registered_detectors():
        yield


def several_findings(folder, count=10):
    """Of VinBigData: every second image has three boxes of two findings, the others are normal."""
    dataset = written(folder, count, ("vinbigdata",))
    images = [
        replace(image, boxes=BOXES, labels=NAMES, target=True, category="Abnormal")
        if number % 2
        else replace(image, boxes=BOXES[:0], labels=(), target=False, category="No finding")
        for number, image in enumerate(dataset.images)
    ]
    names = ("Aortic enlargement", "ILD", "Nodule/Mass")
    return replace(dataset, images=tuple(images), class_names=names)


def recipe_for(**changes):
    task = {"task": "findings", "order": "fixed", "folds": [0, 1, 2, 3]}
    stages = [{"epochs": 1, "image_size": SIDE}]
    return recipe_of(architecture="small_retinanet", data=task | changes, stages=stages)


@checks("data.task", "data.classes")
@pytest.mark.parametrize(
    ("classes", "expected"),
    [((), [1, 2, 1]), (("Nodule/Mass", "ILD"), [1, 0, 1]), (("Nodule/Mass",), [0, -1, -1])],
)
def test_findings_are_classes_of_the_network(tmp_path, monkeypatch, classes, expected):
    dataset = several_findings(tmp_path)
    recipe = recipe_for(classes=classes)
    found = read(recipe, dataset, tmp_path, monkeypatch)
    names = classes or dataset.class_names
    assert found.class_names == tuple(names)
    network = build_trainable(recipe, SIDE, 10, found.class_names)
    assert network.outputs["anchors"][1] == 4 + len(names) + 4
    batches = Batches(found.images, recipe, recipe.stages[0], network.outputs)
    (row,) = (n for n, image in enumerate(found.images.dataset.images) if image.fold == 1
              if image.identity == "image-1")  # fmt: skip
    batches.rows = np.array([row, row])
    target = batches[0][1]["anchors"][0]
    shown = target[:, 4][: len(expected)].tolist()
    assert sorted(shown) == sorted(x for x in expected if x >= 0)[: len(shown)]
    nodule = target[target[:, 4] == list(names).index("Nodule/Mass")]
    assert nodule[0, :4] == pytest.approx(BOXES[1] / np.float32([60, 80, 60, 80]))


def test_the_task_is_checked(tmp_path, monkeypatch):
    with pytest.raises(ValidationError, match="classes: only with task = findings"):
        recipe_of(data={"classes": ["ILD"], "samples_per_epoch": 4})
    with pytest.raises(ValidationError, match="opacity: only with task = opacity"):
        recipe_for(opacity=["ILD"])
    with pytest.raises(DatasetError, match="no data set has boxes of the finding ILDS"):
        read(recipe_for(classes=["ILDS"]), several_findings(tmp_path), tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_run_on_findings(tmp_path, own_home, monkeypatch):
    """Scored by the mean average precision, which patience chooses by; registered by classes."""
    folder = runs.written(tmp_path, count=1)
    dataset = several_findings(tmp_path, 20)
    monkeypatch.setattr(data.datasets, "load", lambda _: dataset)
    changes = (
        "architecture=small_retinanet", "data.task=findings", "data.classes=['Nodule/Mass','ILD']",
        "stages=[{ epochs = 2, image_size = 64 }]",
        "validation={ fold = 4, every = 1, patience = 5 }", "batch_size=4",
        "data.folds=[0,1,2,3]", "data.samples_per_epoch=8",
    )  # fmt: skip
    name = run(config_of(folder, "run", *changes), Console(quiet=True))
    weights = load_manifest().weights[name]
    assert (weights.kind, weights.class_names) == ("detection", ("Nodule/Mass", "ILD"))
    assert RunFolder(folder / "run").class_names == ("Nodule/Mass", "ILD")
    epochs = read_log(folder / "run")
    assert all(0 <= epoch.map <= 1 for epoch in epochs)
    assert all(np.isnan(epoch.rsna_metric) for epoch in epochs)
    assert best_epoch(epochs) == max(epochs, key=lambda epoch: (epoch.map, -epoch.epoch)).epoch
    point = load_manifest().ensembles[name].point
    assert (point.min_area, point.shrink) == (0, 0)
    with pytest.raises(RecipeError, match="findings need a detection network"):
        run(config_of(folder, "other", *changes, "architecture=unet_lite0"), Console(quiet=True))
