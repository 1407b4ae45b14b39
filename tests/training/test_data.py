"""What is learned from and scored on: nothing without a sound label, nothing of a held-out fold."""

import csv
import shutil

import numpy as np
import pytest
from rich.console import Console

from lungbox import datasets
from lungbox.common.paths import cache_folder
from lungbox.datasets.cache import prepare_all
from lungbox.datasets.phantom import write_rsna
from lungbox.datasets.rsna import LABELS
from lungbox.datasets.types import DatasetError
from lungbox.engines import Int8
from lungbox.evaluation.evaluator import EvaluationConfig, evaluate_ensemble, held_out_images
from lungbox.evaluation.operating_point import SearchGrid
from lungbox.evaluation.predictions import DatasetPredictions, predict_dataset
from lungbox.evaluation.scores import dataset_estimates
from lungbox.inference.predictor import load, open_ensemble
from lungbox.quantization import quantize_ensemble
from lungbox.quantization.run import calibration_images
from lungbox.training import run as running
from lungbox.training.data import load_training_data
from lungbox.training.progress import TrainingProgress
from lungbox.training.recipe import Recipe, TrainingConfig
from lungbox.weights.entries import Ensemble
from lungbox.weights.manifest import load_manifest, register
from tests.tiny import SIDE, enter_tiny

pytestmark = pytest.mark.usefixtures("small_networks")

COUNT = 60
# Positive, but with a box that cannot be used: of every fold, and of held-out fold 0 more than one.
UNCERTAIN = tuple(range(2, COUNT, 6))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Phantoms; a box of those in `UNCERTAIN` has no width."""
    folder = tmp_path_factory.mktemp("uncertain")
    write_rsna(folder, count=COUNT, size=96)
    wrong = {f"phantom-{number:04d}" for number in UNCERTAIN}
    with (folder / LABELS).open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    with (folder / LABELS).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        for name, x, y, width, height, target in rows:
            table.writerow((name, x, y, 0 if name in wrong else width, height, target))
    return folder


@pytest.fixture(scope="module")
def without(data, tmp_path_factory):
    """The same without those images."""
    folder = tmp_path_factory.mktemp("certain")
    shutil.copytree(data, folder, dirs_exist_ok=True)
    for number in UNCERTAIN:
        (folder / f"images/phantom-{number:04d}.png").unlink()
    return folder


@pytest.fixture(autouse=True)
def _tiny(own_home, tmp_path):
    enter_tiny(tmp_path)


def recipe(**sections):
    return Recipe(
        name="x",
        architecture="unet_lite0",
        batch_size=4,
        data={"samples_per_epoch": 8},
        validation={"fold": 0},
        stages=[{"epochs": 1, "image_size": SIDE}],
        **sections,
    )


def numbers(dataset):
    return {int(image.identity[-4:]) for image in dataset.images}


def training_data(data, tmp_path, unlabelled=None, **sections):
    config = TrainingConfig(tmp_path / "r.toml", data, unlabelled=unlabelled)
    return load_training_data(recipe(**sections), config, TrainingProgress())


def test_uncertain_images_are_neither_learned_from_nor_scored(data, tmp_path):
    found = training_data(data, tmp_path)
    assert numbers(found.images.dataset) == {n for n in range(COUNT) if n % 5} - {*UNCERTAIN}
    assert numbers(found.held_out.dataset) == {*range(0, COUNT, 5)} - {*UNCERTAIN}
    assert len({*UNCERTAIN} & {*range(0, COUNT, 5)}) == 2


def test_with_a_teacher_they_are_learned_from_the_teacher_alone(data, tmp_path):
    found = training_data(data, tmp_path, distillation={"teacher": "tiny", "share": 0.5})
    learned = found.images.dataset
    assert numbers(learned) == {n for n in range(COUNT) if n % 5}
    uncertain = {int(image.identity[-4:]) for image in learned.images if image.uncertain}
    assert uncertain == {n for n in UNCERTAIN if n % 5}
    engine = load("tiny", batch_size=8, precision="float32").engine
    expected = predict_dataset(learned, engine, tmp_path / "another")
    assert np.array_equal(found.teacher.opacity, expected.opacity)
    assert np.array_equal(found.teacher.scores, expected.scores)
    assert found.teacher.share == 0.5
    assert numbers(found.held_out.dataset) == {*range(0, COUNT, 5)} - {*UNCERTAIN}


@pytest.mark.parametrize("held_out", [True, False])
def test_images_that_cannot_be_read_are_named(data, tmp_path, held_out):
    """All of the held-out fold, or all others: their headers are whole."""
    shutil.copytree(data, tmp_path / "data")
    cut = [n for n in range(COUNT) if (n % 5 == 0) == held_out]
    for number in cut:
        image = tmp_path / f"data/images/phantom-{number:04d}.png"
        image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(DatasetError, match="no image could be read") as caught:
        training_data(tmp_path / "data", tmp_path)
    assert f"phantom-{cut[0]:04d}.png" in str(caught.value)


def test_figures_are_what_they_are_without_them(data, without, monkeypatch, tmp_path):
    """Every image gets a box: as negatives they would be false positives."""
    enter_tiny(tmp_path, rule="threshold", threshold=0.001)
    grid = SearchGrid(thresholds=(0.4, 0.6), min_areas=(0.001,), shrinks=(0.05,), gates=5)
    monkeypatch.setattr("lungbox.evaluation.evaluator.SearchGrid", lambda: grid)
    found, expected = (
        dataset_estimates(
            evaluate_ensemble(
                EvaluationConfig(folder, 0, "tiny"), Console(quiet=True)
            ).challenge.at_own_point
        )
        for folder in (data, without)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.name, ours.images) == (theirs.name, theirs.images)
        assert (ours.value, ours.low, ours.high) == pytest.approx(
            (theirs.value, theirs.low, theirs.high), nan_ok=True
        )
    rates = {figure.name: figure.value for figure in found}
    assert rates["recall of images (any box on a positive)"] == 1
    assert numbers(held_out_images("tiny", data, 0)) == {*range(0, COUNT, 5)} - {*UNCERTAIN}


def test_unlabelled_copies_of_labelled_images_are_left_out(data, tmp_path):
    """By their name or their content: of the held-out fold they would be learned by heart."""
    more = tmp_path / "more"
    more.mkdir()
    shutil.copyfile(data / "images/phantom-0000.png", more / "renamed.png")
    other = (data / "images/phantom-0003.png").read_bytes() + b"\0"  # not the same file
    for name in ("phantom-0005", "stranger"):
        (more / f"{name}.png").write_bytes(other)
    taught = {"distillation": {"teacher": "tiny", "share": 0.5}}
    learned = training_data(data, tmp_path, unlabelled=more, **taught).images.dataset
    assert [image.identity for image in learned.of_source("unlabelled").images] == ["stranger"]


def prepared(dataset, config):
    images = prepare_all(dataset, config.image_size, cache_folder(), preparation=config.preparation)
    return [image.tobytes() for image in images.images(slice(None))]


def test_8_bit_ranges_come_from_other_folds_than_those_that_are_checked_on(data):
    config, *_ = open_ensemble("tiny", 4, precision="float32")
    certain = datasets.load(data).where(lambda image: not image.uncertain)
    for fold in range(5):
        found = [image.tobytes() for image in calibration_images(data, fold, config, COUNT)]
        positive = prepared(certain.where(lambda i, f=fold: i.fold != f and i.target), config)
        negative = prepared(certain.where(lambda i, f=fold: i.fold != f and not i.target), config)
        assert len(found) == len({*found}) == len(negative) + len(positive)
        assert {*found} == {*positive, *negative}
    few = [image.tobytes() for image in calibration_images(data, 0, config, 9)]
    assert len({*few} & {*prepared(certain.where(lambda i: i.target), config)}) == 5
    assert len(few) == 9


def test_the_command_checks_on_the_fold_that_it_does_not_calibrate_on(data, monkeypatch, tmp_path):
    seen = {}

    def made(config, images, console):
        seen["calibration"] = {image.tobytes() for image in images}
        return Int8(tmp_path / "int8.safetensors", "0" * 64), ()

    def measured(engines, dataset, point, console):
        seen["checked"] = dataset
        raise KeyboardInterrupt

    monkeypatch.setattr("lungbox.quantization.run._make", made)
    monkeypatch.setattr("lungbox.quantization.run._engines", lambda *_: {})
    monkeypatch.setattr("lungbox.quantization.run.measure", measured)
    with pytest.raises(KeyboardInterrupt):
        quantize_ensemble(data, 0, "tiny", 20, Console(quiet=True))
    config, *_ = open_ensemble("tiny", 4, precision="float32")
    assert numbers(seen["checked"]) == {*range(0, COUNT, 5)} - {*UNCERTAIN}
    assert len(seen["calibration"]) == 20
    assert not seen["calibration"] & {*prepared(datasets.load(data).folds([0]), config)}


def test_each_fold_is_predicted_by_the_weights_that_have_not_seen_it(data, monkeypatch, tmp_path):
    """Each ensemble paints its own number."""

    class Loaded:
        def __init__(self, name, **_):
            self.engine = int(name)

    def painted(dataset, engine, console):
        opacity = np.full((len(dataset), 2, 3), engine, np.uint8)
        return DatasetPredictions(dataset, opacity, np.full(len(dataset), engine / 10, np.float32))

    monkeypatch.setattr(running, "load", Loaded)
    monkeypatch.setattr(running, "predict_with_progress", painted)
    path = tmp_path / "o.npz"
    running.save_out_of_fold_predictions(["0", "1", "2", "3", "4"], data, path, Console(quiet=True))
    with np.load(path) as kept:
        fold = [int(name[-4:]) % 5 for name in kept["identity"].tolist()]
        assert len(fold) == COUNT
        assert kept["fold"].tolist() == kept["opacity"][:, 1, 2].tolist() == fold
        assert kept["score"] == pytest.approx(np.array(fold) / 10)


def test_the_fold_that_chose_the_weights_is_seen_under_every_name_of_the_file(own_home):
    weights = load_manifest().weights["tiny"]
    register("first", weights.model_copy(update={"folds": (1,), "selected_on": 0}), alone("first"))
    register("second", weights.model_copy(update={"folds": None}), alone("second"))
    other = {"folds": (2,), "sha256": "f" * 64}
    register("other", weights.model_copy(update=other), alone("other"))
    manifest = load_manifest()
    assert manifest.training_folds("first") == manifest.training_folds("second") == {0, 1, 2, 3, 4}
    assert manifest.training_folds("other") == {2}


def alone(name):
    return Ensemble(members=(name,))
