"""Classification networks are trained on labels of which some are known."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from lungbox.constants import RSNA_CLASSES, UNKNOWN
from lungbox.datasets.label_sets import LABEL_SETS
from lungbox.datasets.types import DatasetError
from lungbox.evaluation.image_labels import mean_auc
from lungbox.training import loop
from lungbox.training.batches import Batches
from lungbox.training.loggers import EpochMetrics, best_epoch, read_log
from lungbox.training.model import check_network
from lungbox.training.progress import TrainingProgress, epoch_line
from lungbox.training.recipe import RecipeError, TrainingConfig
from lungbox.training.run import run
from lungbox.training.validation import ValidationScorer
from lungbox.weights.manifest import load_manifest
from tests.conftest import ROOT
from tests.training.keys import cache_of, checks, labelled, recipe_of, trainee_of
from tests.training.test_keys_data import read, written

pytestmark = pytest.mark.usefixtures("small_networks")

NIH, VINBIGDATA = LABEL_SETS["nih"], LABEL_SETS["vinbigdata"]
LIGHT = ("gate_lite0", "findings_nih", "findings_vinbigdata", "three_class")


def of(labels, **changes):
    data = {"labels": labels, "samples_per_epoch": 8} | changes.pop("data", {})
    return recipe_of(architecture="small_classifier", data=data, **changes)


def trainable(labels, **changes):
    data = {"labels": labels, "samples_per_epoch": 8}
    return trainee_of(architecture="small_classifier", data=data, **changes)


def mixed(folder):
    """Twenty-five images: of every fold one of RSNA (normal), of SIIM, of VinBigData and of NIH,
    and one that is neither positive nor negative."""
    dataset = written(folder, 25, ("rsna", "siim", "vinbigdata", "nih", "siim"))
    images = []
    for image in dataset.images:
        number = int(image.identity.removeprefix("image-"))
        empty = {"boxes": image.boxes[:0], "labels": (), "target": False}
        opacity = number // 5 == 1 and number % 5 != 1
        facts = {} if opacity else empty
        if number < 5:
            facts |= {"category": RSNA_CLASSES[0], "findings": (("abnormal", 0.0),)}
        elif 10 <= number < 15:
            share = (number % 5) / 4
            findings = ((name, share) for name in VINBIGDATA.findings)
            facts |= {"findings": (("abnormal", float(share > 0)), *findings)}
        elif 15 <= number < 20:
            facts |= {"findings": tuple((name, float(number % 2)) for name in NIH.findings[:-1])}
        elif number >= 20:
            facts |= {"uncertain": True, "category": "any"}
        elif opacity:
            facts |= {"findings": (("abnormal", 1.0),)}
        images.append(replace(image, **facts))
    return replace(dataset, images=tuple(images))


@checks("data.labels")
@pytest.mark.parametrize(
    ("labels", "count"), [("abnormal", 11), ("three", 16), ("nih", 4), ("vinbigdata", 4)]
)
def test_images_with_a_label_are_trained_on(tmp_path, monkeypatch, labels, count):
    """And scored: also those that are neither positive nor negative as to opacity."""
    recipe = of(labels, validation={"fold": 0}, batch_size=4)
    found = read(recipe, mixed(tmp_path), tmp_path, monkeypatch)
    assert len(found.images) == count
    label_set = LABEL_SETS[labels]
    assert all(label_set.is_known(image) for image in found.images.dataset.images)
    assert {image.fold for image in found.held_out.dataset.images} == {0}
    network = trainee_of(
        architecture="small_classifier", data={"labels": labels, "samples_per_epoch": 8}
    )
    number = len(label_set.class_names)
    assert network.inference_model.output["classes"].shape == (None, number)
    # The image score is trained where it is no class.
    assert set(network.outputs) == ({"classes"} if number < 14 else {"classes", "image"})
    assert set(network.inference_model.output) == {"classes", "image"}
    batches = Batches(found.images, recipe, recipe.stages[0], network.outputs)
    batches.rows = np.arange(4)
    _, targets, *_ = batches[0]
    for row, image in enumerate(found.images.dataset.images[:4]):
        expected = np.array(label_set.target(image), np.float32)
        assert np.array_equal(targets["classes"][row], expected)
        if number == 14:
            assert targets["image"][row] == max(expected.max(), 0)


def test_no_image_with_a_label(tmp_path, monkeypatch):
    dataset = written(tmp_path, 10)
    with pytest.raises(DatasetError, match=r"no image with a label of data.labels = nih is in"):
        read(of("nih"), dataset, tmp_path, monkeypatch)
    known = replace(dataset.images[1], findings=((NIH.findings[0], 1.0),))
    dataset = replace(dataset, images=(dataset.images[0], known))
    with pytest.raises(DatasetError, match=r"data.labels = nih is in validation.fold 0"):
        read(of("nih", validation={"fold": 0}), dataset, tmp_path, monkeypatch)


def test_labels_and_the_kind_of_network_fit():
    with pytest.raises(RecipeError, match=r"data.labels: small_classifier is a classification net"):
        check_network(recipe_of(architecture="small_classifier"))
    with pytest.raises(RecipeError, match="two_convolutions is a segmentation network"):
        check_network(recipe_of(data={"labels": "nih", "samples_per_epoch": 8}))
    with pytest.raises(RecipeError, match="options: classes is not known"):
        check_network(of("nih", options={"classes": 3}))
    with pytest.raises(ValidationError, match=r"data.labels: not with distillation"):
        of("nih", distillation={"teacher": "default"})


def test_the_loss_is_of_known_labels():
    """Of the batch's images that have any; here with weights for the image score and smoothing."""
    settings = {"image": 0.5, "label_smoothing": 0.2}
    network = trainee_of(
        architecture="small_classifier",
        data={"labels": "nih", "samples_per_epoch": 8},
        loss=settings,
    )
    known = tuple((name, float(n == 1)) for n, name in enumerate(NIH.findings[:3]))
    cache = cache_of(labelled(0, findings=known), labelled(1, uncertain=True))
    recipe = of("nih", loss=settings)
    batches = Batches(cache, recipe, recipe.stages[0], network.outputs)
    batches.rows = np.array([0, 1])
    _, targets, weights = batches[0]
    assert {name: w.tolist() for name, w in weights.items()} == {"classes": [1, 0], "image": [1, 0]}
    assert (targets["classes"][0, 3:] == UNKNOWN).all()
    guess = {"classes": np.full((2, 14), 0.7), "image": np.full((2, 1), 0.6)}
    found = network.training_model.compute_loss(
        y=targets, y_pred={k: v.astype(np.float32) for k, v in guess.items()}, sample_weight=weights
    )
    present, absent = (-(y * np.log(0.7) + (1 - y) * np.log(0.3)) for y in (0.9, 0.1))
    of_image = -(0.9 * np.log(0.6) + 0.1 * np.log(0.4))
    expected = (present + 2 * absent) / 3 + 0.5 * of_image
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_the_held_out_fold_is_scored_by_the_mean_auc():
    random = np.random.default_rng(0)
    images = []
    for number in range(12):
        values = zip(NIH.findings, (random.random(14) < 0.5).astype(float), strict=True)
        images.append(labelled(number, findings=tuple(values)))
    cache = cache_of(*images)
    cache._pixels[:] = random.integers(0, 256, cache._pixels.shape)
    recipe = of("nih", batch_size=5)
    network = trainee_of(
        architecture="small_classifier", data={"labels": "nih", "samples_per_epoch": 8}
    )
    score = ValidationScorer(network, cache, recipe, recipe.stages[0]).score()
    pixels = cache.images(slice(None))[..., None].astype(np.float32)
    probabilities = np.array(network.inference_model(pixels)["classes"])
    assert score.auc == pytest.approx(mean_auc(NIH, cache.dataset, probabilities))
    assert 0.2 < score.auc < 0.8
    assert np.isnan(score.rsna_metric)
    assert score.metrics["classes_loss"] > 0
    # Epochs are compared by it.
    epochs = [
        EpochMetrics.of(n, score.logs | {"auc": a}) for n, a in ((1, 0.6), (2, 0.7), (3, 0.65))
    ]
    assert best_epoch(epochs) == 2
    assert epoch_line(EpochMetrics(1, {"loss": 0.5, "classes_loss": 0.5, "auc": 0.6, "seconds": 2.0,
                                       "images_per_second": 8.0})) == (
        "epoch 1: loss 0.5000 (classes 0.5000), held out: AUC 0.600, 2 s, 8.0 images/s"
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LIGHT)
def test_shipped_recipes_run_from_data_to_prediction(tmp_path, monkeypatch, name):
    """Two batches with a small network in place of the encoder: every other key is the recipe's."""
    from lungbox import datasets, load

    dataset = mixed(tmp_path)
    monkeypatch.setattr(datasets, "load", lambda *_: dataset)
    changes = [
        "architecture='small_classifier'", "encoder_weights='none'", "options={}", "batch_size=4",
        "data.samples_per_epoch=8", "validation.fold=0", "validation.patience=1",
        "stages=[{epochs=1,image_size=64}]",
    ]  # fmt: skip
    config = TrainingConfig(
        ROOT / f"recipes/{name}.toml", tmp_path, tmp_path / "run", changes, cache=tmp_path / "cache"
    )
    registered = run(config, Console(quiet=True))
    labels = LABEL_SETS[config.load_recipe().data.labels]
    entry = load_manifest().file(registered)
    assert (entry.kind, entry.class_names) == ("classification", labels.class_names)
    (epoch,) = read_log(tmp_path / "run")
    assert 0 < epoch.classes_loss < 3
    detector = load(registered, precision="float32")
    findings = detector.predict(tmp_path / "image-0.png")
    assert len(findings.boxes) == 0
    assert 0 < findings.image_score < 1


@pytest.mark.long("compiles EfficientNet-Lite0 four times")
@pytest.mark.release
@pytest.mark.parametrize("name", LIGHT)
def test_shipped_recipes_train_their_networks(tmp_path, monkeypatch, name):
    """Two batches at 64 px, from ImageNet weights."""
    from lungbox import datasets

    dataset = mixed(tmp_path)
    monkeypatch.setattr(datasets, "load", lambda *_: dataset)
    changes = ["batch_size=4", "data.samples_per_epoch=8", "stages=[{epochs=1,image_size=64}]"]
    config = TrainingConfig(
        ROOT / f"recipes/{name}.toml", tmp_path, tmp_path / "run", changes, cache=tmp_path / "cache"
    )
    assert loop.train(config, TrainingProgress()).is_file()
    (epoch,) = read_log(tmp_path / "run")
    assert 0 < epoch.classes_loss < 3
