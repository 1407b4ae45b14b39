"""What is drawn, how often, and that a batch depends on nothing but seed, epoch and position."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from lungbox import datasets
from lungbox.datasets.cache import prepare_all
from lungbox.datasets.phantom import write_rsna
from lungbox.datasets.types import Dataset
from lungbox.training.batches import Batches, draw_weights
from lungbox.training.distillation import Teacher
from lungbox.training.recipe import Recipe
from lungbox.training.sections import Augmentation, Data, Stage
from tests.training.keys import outputs_of


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    write_rsna(folder / "data", count=15, size=64)
    return prepare_all(datasets.load(folder / "data"), 64, folder / "cache")


def recipe(**data):
    return Recipe(
        name="x",
        architecture="unet_lite0",
        batch_size=4,
        data={"samples_per_epoch": 400} | data,
        stages=[{"epochs": 1, "image_size": 64}],
    )


STAGE = Stage(epochs=1, image_size=64)


def batches(cache, epoch=0, size=64, **data):
    stage = Stage(epochs=1, image_size=size)
    return Batches(cache, recipe(**data), stage, outputs_of(size // 4), epoch)


def test_shapes(cache):
    images, targets = batches(cache, size=32)[0]
    assert images.shape == (4, 32, 32, 1)
    assert targets["mask"].shape == (4, 8, 8, 2)
    assert targets["image"].shape == (4, 1)
    assert 0 <= images.min() < images.max() <= 255
    assert np.allclose(targets["mask"].sum(axis=-1), 1)


def test_masks_and_targets_agree(cache):
    epoch = batches(cache)
    for step in range(10):
        _, targets = epoch[step]
        any_opacity = targets["mask"][..., 1].max(axis=(1, 2)) > 0.5
        assert np.array_equal(any_opacity, targets["image"][:, 0] > 0)


def test_a_batch_does_not_depend_on_what_was_asked_before(cache):
    first, again = batches(cache, epoch=3), batches(cache, epoch=3)
    for step in range(5):
        first[step]
    for key in ("mask", "image"):
        assert np.array_equal(first[5][1][key], again[5][1][key])
    assert np.array_equal(first[5][0], again[5][0])
    assert not np.array_equal(batches(cache, epoch=4)[5][0], again[5][0])


def test_the_epoch_may_be_set_later(cache):
    """As a run does it, with one dataset for all epochs."""
    changed = batches(cache, epoch=1)
    before = [changed[step][0] for step in range(3)]
    changed.epoch = 4
    again = batches(cache, epoch=4)
    for step in range(3):
        assert np.array_equal(changed[step][0], again[step][0])
        assert not np.array_equal(changed[step][0], before[step])


def test_every_image_is_drawn_its_share(cache):
    """Systematic drawing: 400 of 15 images is 26 or 27 of each, never 20 and 33."""
    drawn = Counter(batches(cache).rows.tolist())
    assert set(drawn.values()) <= {26, 27}
    assert len(drawn) == 15


def test_weights(cache):
    images = cache.dataset.images
    hard = "No Lung Opacity / Not Normal"
    settings = Data(samples_per_epoch=1, category_weights={hard: 3.0})
    weights = draw_weights(cache.dataset, settings, STAGE)
    assert weights.sum() == pytest.approx(1)
    by_category = {image.category: weight for image, weight in zip(images, weights, strict=True)}
    assert by_category[hard] == pytest.approx(3 * by_category["Normal"])


def test_balance_evens_out_views_and_targets(cache):
    settings = Data(samples_per_epoch=1, balance=("view", "target"))
    weights = draw_weights(cache.dataset, settings, STAGE)
    share = Counter()
    for image, weight in zip(cache.dataset.images, weights, strict=True):
        share[image.view, image.target] += weight
    assert len(share) == 4
    assert all(value == pytest.approx(0.25) for value in share.values())


def test_a_stages_own_weights_go_first(cache):
    settings = Data(samples_per_epoch=1, source_weights={"rsna": 0.0})
    with pytest.raises(ValueError, match="every image has a weight of 0"):
        draw_weights(cache.dataset, settings, STAGE)
    other = Stage(epochs=1, image_size=64, source_weights={"rsna": 2.0})
    assert draw_weights(cache.dataset, settings, other).sum() == pytest.approx(1)


def test_a_fixed_order_takes_every_image_once_and_leaves_it_as_it_is(cache):
    fixed = Recipe(
        name="x",
        architecture="unet_lite0",
        batch_size=4,
        data={"order": "fixed", "edges": "hard"},
        augmentation={"enabled": False},
        stages=[{"epochs": 1, "image_size": 64}],
    )
    first, later = (Batches(cache, fixed, STAGE, outputs_of(64), epoch) for epoch in (0, 5))
    epochs = [[epoch[step] for step in range(len(epoch))] for epoch in (first, later)]
    for (a, one, _), (b, other, _) in zip(*epochs, strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(one["mask"], other["mask"])
    weights = np.concatenate([weights["mask"] for _, _, weights in epochs[0]])
    assert weights.tolist() == [1] * 15 + [0]  # the last batch is filled up, and that says nothing
    seen = np.concatenate([images for images, _, _ in epochs[0]])[:15, ..., 0]
    assert first.samples == len(cache) == 15
    kept = {image.tobytes() for image in cache.images(slice(None))}
    assert {image.astype(np.uint8).tobytes() for image in seen} == kept
    assert not np.array_equal(seen, cache.images(slice(None)))  # not in the order of the files


def test_edges_lie_inside_the_masks_they_belong_to(cache):
    epoch = Batches(cache, recipe(), STAGE, outputs_of(64, ("mask", "edges")))
    _, targets = epoch[0]
    assert set(targets) == {"mask", "edges"}
    opacity, edges = targets["mask"][..., 1], targets["edges"]
    assert edges.shape == (4, 64, 64, 4)
    positive = opacity.max(axis=(1, 2)) > 0.5
    assert np.array_equal(edges.max(axis=(1, 2, 3)) > 0, positive)
    for image in np.flatnonzero(positive):
        top, bottom, left, right = (np.argwhere(edges[image, ..., i]) for i in range(4))
        assert top[:, 0].mean() < bottom[:, 0].mean()
        assert left[:, 1].mean() < right[:, 1].mean()


def test_a_teacher_is_mixed_in_and_stands_alone_without_labels(cache):
    images = cache.dataset.images
    opacity = np.full((len(images), 16, 16), 200, np.uint8)
    teacher = Teacher(opacity, np.full(len(images), 0.9, np.float32), share=0.5)
    unlabelled = Dataset(tuple(replace(image, uncertain=True) for image in images))
    settings = recipe().model_copy(update={"augmentation": Augmentation(enabled=False)})
    for dataset, alone in ((cache.dataset, False), (unlabelled, True)):
        given = replace(cache, dataset=dataset)
        taught = Batches(given, settings, STAGE, outputs_of(64), teacher=teacher)
        plain = Batches(cache, settings, STAGE, outputs_of(64))
        for step in range(5):
            _, ours = taught[step]
            _, readers = plain[step]
            mask, target = readers["mask"][..., 1], readers["image"]
            if alone:
                mask, target = np.full_like(mask, 200 / 255), np.full_like(target, 0.9)
            else:
                mask, target = (mask + 200 / 255) / 2, (target + 0.9) / 2
            assert np.allclose(ours["mask"][..., 1], mask, atol=0.005)
            assert np.allclose(ours["image"], target, atol=1e-5)
