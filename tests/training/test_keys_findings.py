"""Keys by which image-level labels, and images without a certain one, are trained on."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from lungbox.constants import UNKNOWN
from lungbox.datasets.findings import FINDINGS
from lungbox.datasets.types import Dataset
from lungbox.training.batches import Batches
from lungbox.training.data import check_data
from lungbox.training.heads import HEADS
from lungbox.training.recipe import RecipeError
from lungbox.training.run import run, run_all_folds
from lungbox.weights.entries import Ensemble, Weights
from lungbox.weights.formats.safetensors import WeightsError, save_weights
from lungbox.weights.manifest import load_manifest, register
from lungbox.weights.store import sha256
from tests.training import runs
from tests.training.keys import SIDE, cache_of, checks, labelled, outputs_of, recipe_of, trainee_of
from tests.training.runs import Untrained, config_of
from tests.training.test_keys_data import read, shares, written
from tests.training.test_keys_loss import NONE

pytestmark = pytest.mark.usefixtures("small_networks")

EFFUSION, ILD = FINDINGS.index("NIH Effusion"), FINDINGS.index("VinBigData ILD")
OUTPUTS = outputs_of(SIDE // 4) | {"findings": (len(FINDINGS),)}
UNSURE = {"boxes": (), "uncertain": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return runs.written(tmp_path_factory.mktemp("keys"), count=30)


def registered(path, folds):
    """Registers a file of weights; its name."""
    entry = Weights(
        architecture="two_convolutions", image_size=SIDE, sha256=sha256(path),
        bytes=path.stat().st_size, sources=(f"file:{path}",), folds=folds,
    )  # fmt: skip
    alone = Ensemble.alone("before", reference=False, preparation="equalised")
    register("before", entry, alone)
    return "before"


@checks("loss.findings")
def test_findings_are_learned_where_they_are_known():
    """The mean over an image's known findings; images without any have no part in it."""
    recipe = recipe_of(loss=NONE | {"findings": 0.5})
    network = trainee_of(loss=NONE | {"findings": 0.5})
    assert set(network.outputs) == {"mask", "image", "findings"}
    assert set(network.inference_model.output) == {"mask", "image"}
    known = (("abnormal", 1.0), ("NIH Effusion", 0.0), ("VinBigData ILD", 1 / 3))
    cache = cache_of(labelled(0, findings=known), labelled(1))
    batches = Batches(cache, recipe, recipe.stages[0], OUTPUTS)
    batches.rows = np.array([0, 1])
    _, targets, weights = batches[0]
    first, second = targets["findings"]
    assert (first[0], first[EFFUSION], first[ILD]) == (1, 0, np.float32(1 / 3))
    assert np.count_nonzero(first == UNKNOWN) == len(FINDINGS) - 3
    assert (second == UNKNOWN).all()
    assert {name: w.tolist() for name, w in weights.items()} == {
        "mask": [1, 1], "image": [1, 1], "findings": [1, 0],
    }  # fmt: skip
    guess = {name: np.full_like(y, 0.5) for name, y in targets.items()}
    guess["findings"][0, [0, EFFUSION, ILD]] = 0.8, 0.3, 0.6
    found = network.training_model.compute_loss(y=targets, y_pred=guess, sample_weight=weights)
    of_ild = np.log(0.6) / 3 + np.log(0.4) * 2 / 3
    assert float(found) == pytest.approx(-0.5 * (np.log(0.8) + np.log(0.7) + of_ild) / 3, rel=1e-4)


def test_the_findings_head_reads_the_pooled_features():
    """A network without an image head has no such features."""
    network = trainee_of(loss={"findings": 1.0})
    layer = network.training_model.get_layer("findings")
    assert layer.input.shape == network.inference_model.get_layer("image_dropout").output.shape
    with pytest.raises(RecipeError, match=r"loss\.findings: only_a_mask has no layer"):
        trainee_of(architecture="only_a_mask", loss={"findings": 1.0})
    assert HEADS["findings"].metrics == {}


@checks("data.findings")
def test_chosen_findings_alone_are_learned(tmp_path, monkeypatch):
    """The others count as unknown, and so does an uncertain image that has no other label."""
    chosen = {"findings": ["abnormal", "NIH Effusion"], "order": "fixed"}
    recipe = recipe_of(data=chosen, loss={"findings": 1.0}, batch_size=4)
    known = (("abnormal", 1.0), ("NIH Effusion", 0.0), ("VinBigData ILD", 1 / 3))
    dataset = written(tmp_path, 3, ("nih",), fold=1)
    unsure = [
        replace(
            image, boxes=image.boxes[:0], labels=(), target=False, uncertain=True, findings=labels
        )
        for image, labels in zip(dataset.images, (known, known[2:], known[1:]), strict=True)
    ]
    images = read(recipe, Dataset(tuple(unsure)), tmp_path, monkeypatch).images
    assert [image.identity for image in images.dataset.images] == ["image-0", "image-2"]
    batches = Batches(images, recipe, recipe.stages[0], OUTPUTS)
    batches.rows = np.array([0, 1])
    _, targets, weights = batches[0]
    for row, abnormal in enumerate((1, UNKNOWN)):
        found = targets["findings"][row]
        assert (found[0], found[EFFUSION]) == (abnormal, 0)
        assert (np.delete(found, [0, EFFUSION]) == UNKNOWN).all()
    assert weights["findings"].tolist() == [1, 1, 0, 0]
    with pytest.raises(RecipeError, match=r"data\.findings: .*NIH Effusion"):
        check_data(recipe_of(data={"findings": ["Effusion"], "samples_per_epoch": 4}), dataset)


@checks("data.weak_targets")
def test_uncertain_images_are_trained_on_without_a_mask(tmp_path, monkeypatch):
    dataset = written(tmp_path, 5, ("nih",), fold=1)
    kinds = ("expert_opacity", "nih_no_finding", "nih_opacity_label")
    unsure = [
        replace(
            image, boxes=image.boxes[:0], labels=(), target=False, uncertain=True, category=kind
        )
        for image, kind in zip(dataset.images, kinds, strict=False)
    ]
    known = replace(unsure[2], findings=(("NIH Mass", 1.0),))
    dataset = Dataset((*unsure[:2], known, *dataset.images[3:]))
    weak = {"weak_targets": {"expert_opacity": 0.4}, "order": "fixed"}
    recipe = recipe_of(data=weak, loss={"findings": 1.0}, batch_size=4)
    images = read(recipe, dataset, tmp_path, monkeypatch).images
    # Of the uncertain ones, one has a weak target, one a finding, and one nothing to learn from.
    assert [image.identity for image in images.dataset.images] == [
        "image-0", "image-2", "image-3", "image-4",
    ]  # fmt: skip
    batches = Batches(images, recipe, recipe.stages[0], OUTPUTS)
    batches.rows = np.arange(4)
    _, targets, weights = batches[0]
    assert targets["image"][:, 0].tolist() == pytest.approx([0.4, 0, 1, 1])
    assert weights["mask"].tolist() == [0, 0, 1, 1]
    assert weights["image"].tolist() == [1, 0, 1, 1]
    assert weights["findings"].tolist() == [0, 1, 0, 0]
    without = recipe_of(data={"order": "fixed"})
    assert len(read(without, dataset, tmp_path, monkeypatch).images) == 2
    misspelt = recipe_of(data={"weak_targets": {"expert_opacty": 0.4}, "samples_per_epoch": 4})
    with pytest.raises(RecipeError, match=r"weak_targets: .*did you mean expert_opacity"):
        check_data(misspelt, dataset)


def test_a_teacher_and_weak_targets_are_refused():
    weak = {"weak_targets": {"Opacity": 0.3}, "samples_per_epoch": 4}
    with pytest.raises(ValidationError, match="weak_targets: not with distillation"):
        recipe_of(data=weak, distillation={"teacher": "default"})


def test_a_certain_image_keeps_its_target():
    """A weak target is of uncertain images of the class alone."""
    recipe = recipe_of(data={"order": "fixed", "weak_targets": {"Opacity": 0.3}})
    images = [labelled(0, category="Opacity"), labelled(1, category="Opacity", **UNSURE)]
    batches = Batches(cache_of(*images), recipe, recipe.stages[0], outputs_of(8))
    batches.rows = np.array([0, 1])
    assert batches[0][1]["image"][:, 0].tolist() == pytest.approx([1, 0.3])


@checks("data.max_per_patient")
def test_a_patient_with_many_films_is_drawn_as_one_with_fewer():
    """Of two data sets' patients of one name, each has its own count."""
    images = [labelled(n, patient="many") for n in range(4)]
    images += [labelled(4), labelled(5, source="siim", patient="many")]
    expected = [2 / 4 / 4] * 4 + [1 / 4] * 2
    close = {"abs": 0.004}
    cache = cache_of(*images)
    assert shares(cache, data={"max_per_patient": 2}) == pytest.approx(expected, **close)
    assert shares(cache, data={"max_per_patient": 4}) == pytest.approx([1 / 6] * 6, **close)


@checks("initial_weights")
def test_training_begins_with_the_initial_weights(tmp_path, own_home):
    before = trainee_of(seed=1).inference_model
    path = tmp_path / "before.safetensors"
    save_weights(before, path)
    for given in (str(path), registered(path, folds=(0, 3))):
        found = trainee_of(seed=2, initial_weights=given).inference_model
        for ours, theirs in zip(found.weights, before.weights, strict=True):
            assert np.array_equal(ours, theirs), ours.path
    with pytest.raises(RecipeError, match=r"no\.safetensors: there is no such file"):
        trainee_of(initial_weights="no.safetensors")
    with pytest.raises(WeightsError, match=r"image/kernel|image"):
        trainee_of(architecture="only_a_mask", initial_weights=str(path))


@pytest.mark.parametrize(("folds", "expected"), [((1, 0), (0, 1, 2)), (None, None)])
def test_folds_of_the_initial_weights_count(
    folder, own_home, monkeypatch, tmp_path, folds, expected
):
    """Registered as trained on; unknown where those of the initial weights are; not scored on."""
    path = tmp_path / "before.safetensors"
    save_weights(trainee_of().inference_model, path)
    if folds:
        registered(path, folds)
    Untrained(monkeypatch)
    changes = (f"initial_weights={path}", "data.folds=[1,2]")
    name = run(config_of(folder, f"named-{expected}", *changes), Console(quiet=True))
    assert load_manifest().weights[name].folds == expected
    reason = "trained on fold 0" if folds else "are unknown"
    with pytest.raises(RecipeError, match=rf"validation\.fold: .*{reason}"):
        run(config_of(folder, "scored", *changes, "validation.fold=0"), Console(quiet=True))
    with pytest.raises(RecipeError, match=r"--folds all: the initial weights .*before"):
        run_all_folds(config_of(folder, "all", *changes), Console(quiet=True))
