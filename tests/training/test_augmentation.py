"""Augmentation moves image and mask alike, and follows from its seed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lungbox.boxes.geometry import as_boxes
from lungbox.radiograph import equalise
from lungbox.training.augmentation import Augmenter
from lungbox.training.sections import Augmentation

NONE = as_boxes([]), np.zeros(0, np.int64)
OFF = dict(
    flip=0, rotate=0, scale=(1, 1), shift=0, shear=0, gamma=(1, 1),
    clahe=0, blur=0, noise=0, jpeg=0, erase_corner=0,
)  # fmt: skip


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)


def block(side=96):
    """An image whose mask can be seen in it: one bright rectangle."""
    image = np.random.default_rng(0).integers(0, 100, (side, side)).astype(np.uint8)
    mask = np.zeros_like(image)
    mask[30:70, 20:50] = 255
    return np.where(mask > 0, 200 + image // 4, image).astype(np.uint8), mask


def test_everything_off_is_equalising(image):
    same, mask, *_ = Augmenter(Augmentation(**OFF))(image, image, *NONE, seed=1)
    assert np.abs(same.astype(int) - equalise(image)).max() <= 2  # a gamma of 1 rounds
    assert np.array_equal(mask, image)


@pytest.mark.parametrize("preparation", ["equalised", "padded"])
def test_a_histogram_that_was_equalised_is_equalised_again(image, preparation):
    dark = equalise(image // 4)
    found = Augmenter(Augmentation(**OFF | {"gamma": (3, 3)}), preparation)
    images = [found(dark, dark, *NONE, seed).image for seed in range(6)]
    assert all(one.mean() > 115 for one in images)  # a gamma of 3 alone would leave about 64


def test_flip(image):
    flipped, mask, *_ = Augmenter(Augmentation(**OFF | {"flip": 1}))(image, image, *NONE, seed=1)
    assert np.array_equal(mask, image[:, ::-1])
    assert np.abs(flipped.astype(int) - equalise(image[:, ::-1])).max() <= 2


@pytest.mark.parametrize("seed", range(12))
def test_image_and_mask_move_together(seed):
    image, mask = block()
    settings = OFF | {"flip": 0.5, "rotate": 10, "scale": (0.85, 1.15), "shift": 0.06, "shear": 4}
    augment = Augmenter(Augmentation(**settings))
    moved, moved_mask, boxes, _ = augment(
        image, mask, as_boxes([(20, 30, 50, 70)]), np.array([0]), seed
    )
    inside, outside = moved_mask > 250, moved_mask < 5
    assert moved[inside].mean() - moved[outside].mean() > 90
    # The rectangle's edge falls where the mask's does: within a pixel, classes do not mix.
    assert (moved[inside] > 180).mean() > 0.97
    # The box is the one around the mask: what inference would make of a perfect one.
    rows, columns = np.nonzero(moved_mask > 127)
    around = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert boxes[0] == pytest.approx(around, abs=1.5)


def test_the_seed_decides_on_any_thread(image):
    augment = Augmenter(Augmentation())
    boxes = as_boxes([(10, 12, 40, 50)]), np.array([3])
    expected = [augment(image, image, *boxes, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda seed: augment(image, image, *boxes, seed), range(40)))
    for (a, b, e, _), (c, d, f, _) in zip(expected, results, strict=True):
        assert np.array_equal(e, f)
        assert np.array_equal(a, c)
        assert np.array_equal(b, d)
    # A few draw neither movement nor noise, and are then alike.
    assert len({a.tobytes() for a, *_ in expected}) > 30


def test_erasing_touches_one_corner_only(image):
    settings = Augmentation(**OFF | {"erase_corner": 1})
    before = equalise(image)
    erased, *_ = Augmenter(settings)(before, before, *NONE, seed=3)
    changed = np.abs(erased.astype(int) - before) > 30
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert np.ptp(rows) < 0.27 * 64
    assert np.ptp(columns) < 0.32 * 64
    assert rows.min() == 0 or rows.max() == 63
    assert columns.min() == 0 or columns.max() == 63


def test_boxes_keep_their_labels():
    """Also where others are moved out of the image and dropped."""
    image = np.zeros((96, 96), np.uint8)
    boxes = as_boxes([(1, 1, 9, 7), (40, 30, 60, 66), (2, 80, 10, 95), (70, 60, 80, 90)])
    labels = np.array([3, 13, 0, 7])
    augment = Augmenter(Augmentation(**OFF | {"scale": (2, 2), "flip": 0.5}))
    kept = set()
    for seed in range(20):
        moved = augment(image, image, boxes, labels, seed)
        assert moved.labels.dtype == np.int64
        assert len(moved.boxes) == len(moved.labels)
        kept.add(tuple(moved.labels.tolist()))
        for label, (x1, y1, x2, y2) in zip(moved.labels, moved.boxes, strict=True):
            whole = boxes[labels.tolist().index(label)]
            if min(x1, y1) > 0 and max(x2, y2) < 96:
                grown = (x2 - x1) / (whole[2] - whole[0])
                assert (y2 - y1) / (whole[3] - whole[1]) == pytest.approx(grown, rel=1e-3)
    # Zoomed by 2, only the box in the middle and a part of the last one remain; a tenth is still.
    assert kept == {(3, 13, 0, 7), (13, 7)}
    moved = Augmenter(Augmentation())(image, image, *NONE, seed=1)
    assert (moved.boxes.shape, moved.labels.shape) == ((0, 4), (0,))


def test_transforms_are_drawn_independently():
    """Of flipped and other images the same share has a corner erased: all four cases occur as often
    as the product of the probabilities says."""
    image = np.tile(np.linspace(20, 200, 64).astype(np.uint8), (64, 1))  # darker on the left
    settings = Augmentation(
        flip=0.5, erase_corner=0.4, rotate=0, scale=(1, 1), shift=0, shear=0, gamma=(1, 1),
        clahe=0, blur=0, noise=0, jpeg=0,
    )  # fmt: skip
    augment, counts = Augmenter(settings, preparation="nearest"), np.zeros((2, 2))
    for seed in range(400):
        found = augment(image, image, *NONE, seed).image
        flipped = found[32, 16] > found[32, 48]  # the corners do not reach there
        changed = np.abs(found.astype(int) - (image[:, ::-1] if flipped else image))
        erased = changed.max() > 8  # interpolation changes less
        counts[int(flipped), int(erased)] += 1
    expected = 400 * np.outer([0.5, 0.5], [0.6, 0.4])
    assert counts == pytest.approx(expected, rel=0.25)
