"""Every key of `data` and `distillation` reaches the batches of radiographs that are not square."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from lungbox.boxes.geometry import as_boxes
from lungbox.datasets.types import Dataset
from lungbox.errors import LungboxError
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.training import data, devices, distillation
from lungbox.training.data import check_data, load_training_data
from lungbox.training.distillation import Teacher
from lungbox.training.progress import TrainingProgress
from lungbox.training.recipe import RecipeError, TrainingConfig
from tests.training.keys import SIDE, batches_of, cache_of, checks, drawn, labelled, recipe_of

pytestmark = pytest.mark.usefixtures("small_networks")

NOT_NORMAL = "No Lung Opacity / Not Normal"


def written(folder, count=10, sources=("rsna", "siim"), **facts):
    """A data set of real files, 60 x 80, whose folds and sources follow each other."""
    random = np.random.default_rng(0)
    images = []
    for number in range(count):
        path = folder / f"image-{number}.png"
        Image.fromarray(random.integers(60, 120, (80, 60)).astype(np.uint8)).save(path)
        place = {"fold": number % 5, "source": sources[number // 5 % len(sources)]}
        images.append(labelled(number, (60, 80), [(6, 8, 24, 48)], path=path, **(place | facts)))
    return Dataset(tuple(images))


def read(recipe, dataset, folder, monkeypatch, **config):
    monkeypatch.setattr(data.datasets, "load", lambda _: dataset)
    where = TrainingConfig(folder / "recipe.toml", folder, cache=folder / "cache", **config)
    return load_training_data(recipe, where, TrainingProgress())


@checks("data.folds", "data.sources", "validation.fold")
def test_folds_and_sources(tmp_path, monkeypatch):
    dataset = written(tmp_path, 20)
    # Neither positive nor negative: of a fold that is learned from, and of the one that is scored.
    unsure = [replace(dataset.images[n], identity="unsure", uncertain=True) for n in (7, 11)]
    dataset = Dataset((*dataset.images, *unsure))
    settings = {"folds": [2, 4], "sources": ["siim"], "samples_per_epoch": 4}
    recipe = recipe_of(data=settings, validation={"fold": 1})
    found = read(recipe, dataset, tmp_path, monkeypatch)
    learned, scored = found.images.dataset.images, found.held_out.dataset.images
    assert [image.identity for image in learned] == [f"image-{n}" for n in (7, 9, 17, 19)]
    assert [image.identity for image in scored] == ["image-1", "image-11"]  # RSNA's
    everything = recipe_of(data=settings | {"sources": []})
    found = read(everything, dataset, tmp_path, monkeypatch)
    assert [image.identity for image in found.images.dataset.images] == [
        f"image-{n}" for n in (2, 4, 7, 9, 12, 14, 17, 19)
    ]
    assert found.held_out is None


@checks("data.opacity")
def test_classes_that_are_opacity(tmp_path, monkeypatch):
    """Of VinBigData's findings those that the recipe names, where two readers agree."""
    folds = [0, 1, 2, 3, 4]
    dataset = written(tmp_path, 5, ("vinbigdata",))
    boxes = as_boxes([(6, 8, 24, 48), (6, 8, 24, 56), (30, 10, 50, 60), (30, 10, 50, 60)])
    drawn_by = ("R1", "R2", "R1", "R3")
    names = ("Consolidation", "Lung Opacity", "ILD", "ILD")
    first = replace(dataset.images[0], boxes=boxes, labels=names, readers=drawn_by)
    dataset = replace(dataset, images=(first, *dataset.images[1:]))
    for opacity, expected in (([], (6, 8, 24, 52)), (["ILD", "Atelectasis"], (30, 10, 50, 60))):
        recipe = recipe_of(data={"opacity": opacity, "samples_per_epoch": 4, "folds": folds})
        image, *_ = read(recipe, dataset, tmp_path, monkeypatch).images.dataset.images
        assert image.boxes.tolist() == [pytest.approx(expected)]
    misspelt = recipe_of(data={"opacity": ["Consolidaton"], "samples_per_epoch": 4})
    with pytest.raises(RecipeError, match=r"data.opacity: .*did you mean Consolidation"):
        check_data(misspelt, dataset)


@checks("data.preparation")
@pytest.mark.parametrize("preparation", ["equalised", "nearest"])
def test_preparation(tmp_path, monkeypatch, preparation):
    """At a size where nothing is resized along one axis, so that only contrast is left."""
    dataset = written(tmp_path, 5)
    for number in range(5):
        path = tmp_path / f"image-{number}.png"
        with Image.open(path) as image:
            image.resize((64, 64)).save(path)
    settings = {"preparation": preparation, "samples_per_epoch": 4, "folds": [0, 1, 2, 3, 4]}
    recipe = recipe_of(data=settings, stages=[{"epochs": 1, "image_size": 64}])
    found = read(recipe, dataset, tmp_path, monkeypatch)
    for row, image in enumerate(found.images.dataset.images):
        with Image.open(image.path) as stored:
            expected = ImageOps.equalize(stored) if preparation == "equalised" else stored
            assert np.array_equal(found.images.images(row), np.asarray(expected))
    batch, _ = batches_of(found.images, recipe=recipe)[0]
    assert (batch.max() > 200) == (preparation == "equalised")


@checks("data.order")
def test_a_fixed_order_is_every_image_once_and_the_same_each_epoch():
    cache = cache_of(*(labelled(n) for n in range(7)))
    fixed = {"order": "fixed"}
    first, later = (batches_of(cache, epoch, data=fixed, batch_size=3) for epoch in (0, 4))
    assert sorted(drawn(first)[:7]) == list(range(7))
    assert drawn(first) == drawn(later)
    other = batches_of(cache, data=fixed, batch_size=3, seed=9)
    assert drawn(first) != drawn(other)
    assert drawn(batches_of(cache, 0)) != drawn(batches_of(cache, 1))


@checks("data.samples_per_epoch", "batch_size")
def test_how_many_images_a_step_and_an_epoch_have():
    cache = cache_of(*(labelled(n) for n in range(5)))
    for size, steps in ((2, 5), (4, 2)):
        batches = batches_of(cache, data={"samples_per_epoch": 11}, batch_size=size)
        assert (len(batches), batches.samples) == (steps, steps * size)
        assert batches[0][0].shape == (size, SIDE, SIDE, 1)


def shares(cache, stage=0, samples=400, **changes):
    data = changes.pop("data", {}) | {"samples_per_epoch": samples}
    counts = Counter(drawn(batches_of(cache, stage=stage, data=data, batch_size=8, **changes)))
    return [counts[number] / samples for number in range(len(cache))]


@checks("data.source_weights", "data.category_weights", "stages.source_weights")
def test_weights_of_data_sets_and_classes():
    """Three of RSNA, one of them harder, and one of SIIM."""
    hard = labelled(2, boxes=(), category=NOT_NORMAL)
    cache = cache_of(labelled(0), labelled(1), hard, labelled(3, source="siim"))
    close = {"abs": 0.004}
    assert shares(cache) == pytest.approx([0.25] * 4, **close)
    weighted = {"source_weights": {"siim": 3.0}}
    assert shares(cache, data=weighted) == pytest.approx([1 / 6] * 3 + [0.5], **close)
    weighted |= {"category_weights": {NOT_NORMAL: 4.0}}
    assert shares(cache, data=weighted) == pytest.approx([1 / 9, 1 / 9, 4 / 9, 3 / 9], **close)
    stages = [
        {"epochs": 1, "image_size": SIDE},
        {"epochs": 1, "image_size": SIDE, "source_weights": {"rsna": 0.0}},
    ]
    assert shares(cache, data=weighted, stages=stages) == pytest.approx(
        [1 / 9, 1 / 9, 4 / 9, 3 / 9], **close
    )
    assert shares(cache, 1, data=weighted, stages=stages) == [0, 0, 0, 1]


@checks("data.balance")
def test_balance():
    """Four of five AP images are positive, one of three PA; SIIM's share stays its own."""
    images = [labelled(n, view="AP") for n in range(4)]
    images += [labelled(4, boxes=(), view="AP"), labelled(5, view="PA")]
    images += [labelled(n, boxes=(), view="PA") for n in (6, 7)]
    images += [labelled(n, source="siim", view="AP") for n in (8, 9)]
    close = {"abs": 0.004}
    cell = 0.8 / 4
    expected = [cell / 4] * 4 + [cell, cell] + [cell / 2] * 2 + [0.1] * 2
    balanced = {"balance": ("view", "target")}
    assert shares(cache_of(*images), data=balanced) == pytest.approx(expected, **close)
    half = 0.8 / 2
    expected = [half / 5] * 5 + [half / 3] * 3 + [0.1] * 2
    assert shares(cache_of(*images), data={"balance": ("view",)}) == pytest.approx(
        expected, **close
    )


@checks("data.shape", "data.edges")
def test_masks_are_painted_as_the_recipe_says():
    """A box in a file of 300 x 400: on 32 pixels from 3.2 to 12.8 across, 3.2 to 19.2 down."""
    box = as_boxes([(30, 40, 120, 240)])
    cache = cache_of(labelled(0, boxes=box), labelled(1, boxes=box))

    def mask(**data):
        batches = batches_of(cache, data={"samples_per_epoch": 8} | data, stride=1)
        _, targets = batches[0]
        assert np.allclose(targets["mask"].sum(axis=-1), 1)
        return targets["mask"][0, ..., 1]

    soft = mask()
    assert soft[10, 5] == 1
    assert soft[10, [2, 3, 12, 13]] == pytest.approx([0, 0.8, 0.8, 0], abs=0.003)
    assert soft[[2, 3, 19, 20], 8] == pytest.approx([0, 0.8, 0.2, 0], abs=0.003)
    assert soft.sum() == pytest.approx(9.6 * 16, abs=0.5)
    hard = mask(edges="hard")
    assert set(np.unique(hard)) == {0, 1}
    assert hard.sum() == pytest.approx(9.6 * 16, abs=16)
    ellipse = mask(shape="ellipse")
    assert ellipse.sum() == pytest.approx(np.pi / 4 * 9.6 * 16, rel=0.02)
    assert ellipse[4, 4] == 0
    assert set(np.unique(mask(shape="ellipse", edges="hard"))) == {0, 1}


def test_masks_at_a_networks_stride_are_means():
    """And edges are the box's: top, bottom, left, right, in a file that is higher than wide."""
    box = as_boxes([(30, 40, 120, 240)])
    cache = cache_of(labelled(0, boxes=box), labelled(1, boxes=box))
    full, small = (
        batches_of(cache, stride=stride, heads=("mask", "image", "edges"))[0][1]
        for stride in (1, 4)
    )
    means = full["mask"][0].reshape(8, 4, 8, 4, 2).mean(axis=(1, 3))
    assert np.abs(means - small["mask"][0]).max() < 0.005
    assert small["image"].tolist() == [[1], [1]]
    places = [np.argwhere(full["edges"][0, ..., side]).mean(axis=0) for side in range(4)]
    # A sixth of 16 rows or 9.6 columns, inside the box: the strips' middles, in pixels.
    assert places[0] == pytest.approx([3.2 + 8 / 6 - 0.5, 7.5], abs=0.6)
    assert places[1] == pytest.approx([19.2 - 8 / 6 - 0.5, 7.5], abs=0.6)
    assert places[2] == pytest.approx([10.7, 3.2 + 0.8 - 0.5], abs=0.6)
    assert places[3] == pytest.approx([10.7, 12.8 - 0.8 - 0.5], abs=0.6)


@checks("distillation.teacher", "distillation.share")
def test_each_image_learns_from_what_the_teacher_says_of_it(tmp_path, monkeypatch):
    """The teacher says something else of every image, and has marked one corner in each."""
    asked = []

    def load(name, **_):
        asked.append(name)
        return type("Detector", (), {"engine": None})

    def predictions(dataset, *_, **__):
        opacity = np.zeros((len(dataset), 8, 8), np.uint8)
        for row in range(len(dataset)):
            opacity[row, :4, 4:] = 20 * row
        return DatasetPredictions(dataset, opacity, np.arange(len(dataset), dtype=np.float32) / 20)

    monkeypatch.setattr(distillation, "load", load)
    monkeypatch.setattr(distillation, "predict_dataset", predictions)
    recipe = recipe_of(distillation={"teacher": "wise", "share": 0.25}, data={"order": "fixed"})
    found = read(recipe, written(tmp_path, 10), tmp_path, monkeypatch)
    assert asked == ["wise"]
    cache = cache_of(*found.images.dataset.images[:6], replace(labelled(6), uncertain=True))
    batches = batches_of(cache, recipe=recipe, teacher=found.teacher)
    rows = drawn(batches)
    seen = [batches[step][1] for step in range(len(batches))]
    for place, row in enumerate(rows):
        mask = seen[place // 2]["mask"][place % 2]
        score = seen[place // 2]["image"][place % 2, 0]
        share = 1.0 if row == 6 else 0.25
        assert mask[1, 6, 1] == pytest.approx(share * 20 * row / 255, abs=0.004)
        assert mask[2, 2, 1] == pytest.approx(1 - share, abs=0.004)
        assert mask[6, 6, 1] == 0
        assert score == pytest.approx(share * row / 20 + (1 - share), abs=1e-5)


def test_a_teachers_mask_lies_where_it_is(tmp_path):
    opacity = np.zeros((1, 8, 8), np.uint8)
    opacity[0, 1:3, 4:8] = 255
    mixed, _ = Teacher(opacity, np.zeros(1, np.float32), 1.0).mix_targets(
        0, np.zeros((32, 32), np.uint8), 0.0, alone=False
    )
    rows, columns = np.nonzero(mixed > 127)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 11, 16, 31)


@checks("devices")
def test_all_devices_share_a_batch_or_it_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "_devices", lambda: ["first", "second", "third"])
    with devices.distributed(recipe_of(devices="one")) as count:
        assert count == 1
    refused = pytest.raises(LungboxError, match="cannot be shared by 3 devices")
    with refused, devices.distributed(recipe_of(devices="all")):
        pass
