"""Augmentation moves image and mask alike, and follows from its seed."""

from concurrent.futures import ThreadPoolExecutor

import albumentations as A
import cv2
import numpy as np
import pytest

from lungbox.boxes.geometry import as_boxes
from lungbox.radiograph import equalise
from lungbox.training.augmentation import Augmenter, _Equalise, _EraseCorner
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


def as_it_was():
    """The composition with which the shipped weights were trained."""
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(
                rotate=(-10, 10), scale=(0.85, 1.15), translate_percent=(-0.06, 0.06),
                shear=(-4, 4), border_mode=cv2.BORDER_REPLICATE, p=0.9,
            ),
            _EraseCorner(p=0.4),
            A.RandomGamma(gamma_limit=(70, 140), p=0.5),
            A.CLAHE(clip_limit=(1, 3), p=0.15),
            _Equalise(p=1),
            A.GaussianBlur(blur_limit=(3, 5), p=0.15),
            A.GaussNoise(std_range=(0.005, 0.02), p=0.15),
            A.ImageCompression(quality_range=(40, 95), p=0.2),
        ],
        bbox_params=A.BboxParams(format="pascal_voc", clip=True, filter_invalid_bboxes=True),
    )  # fmt: skip


def test_the_default_is_that_of_the_shipped_weights():
    """Pixel for pixel: transforms that were added later draw nothing from the others."""
    image, mask = block()
    boxes, augment, before = (
        as_boxes([(20, 30, 50, 70), (3, 2, 9, 90)]),
        Augmenter(Augmentation()),
        as_it_was(),
    )
    for seed in range(30):
        before.set_random_seed(seed)
        expected = before(image=image[..., None], mask=mask, bboxes=boxes)
        found = augment(image, mask, boxes, np.array([0, 1]), seed)
        assert np.array_equal(found.image, expected["image"][..., 0])
        assert np.array_equal(found.mask, expected["mask"])
        assert np.array_equal(found.boxes, as_boxes(expected["bboxes"]))
