"""Every key of the section `augmentation` does what it says, as often and as much as it says.

Through the batches of a recipe, with everything else off and without equalising, so that what is
seen is that key's doing.
"""

import cv2
import numpy as np
import pytest

from lungbox.boxes.geometry import as_boxes
from lungbox.radiograph import equalise
from lungbox.training.augmentation import Augmenter
from tests.training.keys import batches_of, cache_of, checks, labelled, recipe_of

OFF = {
    "flip": 0, "rotate": 0, "scale": (1, 1), "shift": 0, "shear": 0, "gamma": (1, 1),
    "clahe": 0, "blur": 0, "noise": 0, "jpeg": 0, "erase_corner": 0,
}  # fmt: skip
NONE = as_boxes([]), np.zeros(0, np.int64)
SIDE, SEEDS = 96, 200
# The affine transformation and gamma are each drawn apart from what they then do.
MOVED, GAMMA = 0.9, 0.5


def augmenter(preparation="nearest", **changes):
    recipe = recipe_of(augmentation=OFF | changes)
    return Augmenter(recipe.augmentation, preparation)


def rectangle(x1=24, y1=36, x2=72, y2=60):
    """Twice as wide as high, so that the axes can be told apart."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[y1:y2, x1:x2] = 255
    return mask


def radiograph():
    """Smooth, with all levels from 40 on, brighter to the right and downwards."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (40 + columns + rows // 2).astype(np.uint8)


def moments(mask=None, **changes):
    """Of a rectangle's mask after each seed: centre, width and height, slopes against both axes,
    and pixels."""
    augment, mask = augmenter(**changes), rectangle() if mask is None else mask
    found = []
    for seed in range(SEEDS):
        _, moved, *_ = augment(mask, mask, *NONE, seed)
        rows, columns = np.nonzero(moved > 127)
        x, y = columns.mean() + 0.5 - SIDE / 2, rows.mean() + 0.5 - SIDE / 2
        slope = np.polyfit(columns, rows, 1)[0]
        lean = np.polyfit(rows, columns, 1)[0]
        size = np.ptp(columns) + 1, np.ptp(rows) + 1
        found.append((x, y, *size, slope, lean, len(rows)))
    return np.array(found).T


def share(changed):
    return np.mean(changed)


def near(probability, count=SEEDS):
    """Four standard deviations of a share."""
    return pytest.approx(probability, abs=4 * np.sqrt(probability * (1 - probability) / count))


def results(image, **changes):
    augment = augmenter(**changes)
    nothing = np.zeros_like(image)
    return [augment(image, nothing, *NONE, seed)[0] for seed in range(SEEDS)]


@checks("augmentation.flip")
def test_flip():
    augment = augmenter(flip=0.3)
    image, mask = radiograph(), rectangle(10, 36, 40, 60)
    flips = 0
    for seed in range(SEEDS):
        found, moved, boxes, _ = augment(
            image, mask, as_boxes([(10, 36, 40, 60)]), np.array([0]), seed
        )
        flipped = boxes[0].tolist() == [SIDE - 40, 36, SIDE - 10, 60]
        assert flipped or boxes[0].tolist() == [10, 36, 40, 60]
        assert np.array_equal(moved, mask[:, ::-1] if flipped else mask)
        expected = image[:, ::-1] if flipped else image
        assert np.abs(found.astype(int) - expected).max() <= 1
        flips += flipped
    assert flips / SEEDS == near(0.3)


@checks("augmentation.rotate")
def test_rotate():
    x, y, *_, slope, _, size = moments(rotate=20)
    degrees = np.degrees(np.arctan(slope))
    # The slope of a regression through a turned rectangle is a little less than its own.
    assert -21 < degrees.min() < -14
    assert 14 < degrees.max() < 21
    assert share(np.abs(degrees) > 0.3) == near(MOVED * 0.985)
    assert np.abs([x, y]).max() < 1.5  # about the centre
    assert np.abs(size / 1152 - 1).max() < 0.03


@checks("augmentation.rotate90")
def test_rotate90():
    """By each of the three angles as often, image, mask and box alike."""
    augment = augmenter(rotate90=0.6)
    image, mask, box = radiograph(), rectangle(10, 36, 40, 60), as_boxes([(10, 36, 40, 60)])
    turns = []
    for seed in range(SEEDS):
        found, moved, boxes, _ = augment(image, mask, box, np.array([0]), seed)
        turn = next(k for k in range(4) if np.array_equal(np.rot90(mask, k), moved))
        assert np.abs(found.astype(int) - np.rot90(image, turn)).max() <= 1
        rows, columns = np.nonzero(moved)
        around = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert boxes[0] == pytest.approx(around, abs=1e-3)
        turns.append(turn)
    for turn in (1, 2, 3):
        assert share(np.array(turns) == turn) == near(0.2)


@checks("augmentation.invert")
def test_invert():
    """After equalisation, which would otherwise change it again, and whether or not it is
    flipped: each is drawn by itself."""
    image, mask = radiograph(), rectangle(10, 36, 40, 60)
    for preparation in ("nearest", "equalised"):
        augment = augmenter(preparation, invert=0.4, flip=0.5)
        plain = equalise(image) if preparation == "equalised" else image
        inverted, flipped = [], []
        for seed in range(SEEDS):
            found, moved, *_ = augment(image, mask, *NONE, seed)
            flipped.append(not np.array_equal(moved, mask))
            upright = (found[:, ::-1] if flipped[-1] else found).astype(int)
            inverted.append(np.abs(upright - plain).max() > 20)
            expected = 255 - plain.astype(int) if inverted[-1] else plain
            assert np.abs(upright - expected).max() <= 4
        assert share(inverted) == near(0.4)
        assert share(np.array(inverted) & flipped) == near(0.2)


def third_points(box, degrees, side):
    """The bounding box of the points at 1/3 and 2/3 of a box's sides, each rotated by itself."""
    x1, y1, x2, y2 = box
    angle, centre, points = np.radians(degrees), side / 2, []
    for third in (1 / 3, 2 / 3):
        across, down = x1 + third * (x2 - x1), y1 + third * (y2 - y1)
        points += [(across, y1), (across, y2), (x1, down), (x2, down)]
    rotated = []
    for x, y in points:
        dx, dy = x - centre, y - centre
        rotated.append(
            (
                centre + dx * np.cos(angle) - dy * np.sin(angle),
                centre + dx * np.sin(angle) + dy * np.cos(angle),
            )
        )
    xs, ys = zip(*rotated, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


@checks("augmentation.box_rotation")
def test_box_rotation():
    """The bounding box of the corners, or of the thirds of the sides, which lies inside that one;
    the image is the same."""
    box, mask = as_boxes([(24, 36, 72, 60)]), rectangle()
    ways = [augmenter(rotate=20, box_rotation=way) for way in ("bounding", "third_points")]
    moved = 0
    for seed in range(40):
        (bounding, thirds) = (way(mask, mask, box, np.array([0]), seed) for way in ways)
        assert np.array_equal(bounding.mask, thirds.mask)
        width, height = bounding.boxes[0, 2:] - bounding.boxes[0, :2]
        if width == 48:
            assert np.array_equal(thirds.boxes, box)
            continue
        # Of a box of 48 x 24, height = 48 sin + 24 cos and width = 48 cos + 24 sin.
        angle = np.degrees(np.arctan2(2 * height - width, 2 * width - height))
        options = [third_points(box[0], sign * angle, SIDE) for sign in (1, -1)]
        errors = [np.abs(thirds.boxes[0] - option).max() for option in options]
        assert min(errors) < 0.01
        if angle > 3:
            assert (thirds.boxes[0, :2] > bounding.boxes[0, :2] + 0.2).all()
            assert (thirds.boxes[0, 2:] < bounding.boxes[0, 2:] - 0.2).all()
            moved += 1
    assert moved > 20
    # Neither differs where nothing is rotated.
    for scale in ((0.7, 0.7), (1.2, 1.2)):
        plain, thirds = (
            augmenter(scale=scale, box_rotation=way)(mask, mask, box, np.array([0]), 1).boxes
            for way in ("bounding", "third_points")
        )
        assert thirds == pytest.approx(plain, abs=1e-3)


@checks("augmentation.scale")
def test_scale():
    *_, width, height, _, _, _ = moments(scale=(0.6, 1.4))
    for side, whole in ((width, 48), (height, 24)):
        assert 0.58 < side.min() / whole < 0.66
        assert 1.34 < side.max() / whole < 1.43
    _, _, width, height, *_ = moments(scale=(0.7, 0.7))
    assert set(np.round(width)) <= {33, 34, 48}
    assert share(width < 40) == near(MOVED)


@checks("augmentation.shift")
def test_shift():
    x, y, width, height, *_ = moments(shift=0.1)
    for along in (x, y):
        assert -0.1 * SIDE - 1 <= along.min() < -0.08 * SIDE
        assert 0.08 * SIDE < along.max() <= 0.1 * SIDE + 1
    assert set(width) == {48}
    assert set(height) == {24}


@checks("augmentation.shear")
def test_shear():
    """A bar along an axis leans as that axis is sheared."""
    across, down = rectangle(10, 46, 86, 50), rectangle(46, 10, 50, 86)
    *_, slope, _, _ = moments(across, shear=12)
    *_, lean, _ = moments(down, shear=12)
    for along in (slope, lean):
        degrees = np.degrees(np.arctan(along))
        assert -13 < degrees.min() < -9
        assert 9 < degrees.max() < 13
    x, y, _, height, *_ = moments(down, shear=12)
    assert set(height) <= {75, 76, 77}
    assert np.abs([x, y]).max() < 1.5


@checks("augmentation.gamma")
def test_gamma():
    """The power is read off one level, 128."""
    found = results(np.full((SIDE, SIDE), 128, np.uint8), gamma=(0.5, 1.25))
    powers = np.array([np.log(image[5, 7] / 255) / np.log(128 / 255) for image in found])
    assert 0.48 < powers.min() < 0.55
    assert 1.2 < powers.max() < 1.27
    assert share(np.abs(powers - 1) > 0.02) == near(GAMMA * 0.95)


@checks("augmentation.clahe")
def test_clahe():
    """Local contrast: a weak pattern in a dark region comes out, which blur and noise do not do."""
    image = radiograph() // 4
    image[::4] += 4
    found = results(image, clahe=0.4)
    changed = np.array([image.std() * 1.2 < one.std() for one in found])
    assert share(changed) == near(0.4)
    assert np.abs(np.stack(found)[~changed].astype(int) - image).max() <= 1


@checks("augmentation.blur")
def test_blur():
    image = np.where(np.indices((SIDE, SIDE)).sum(axis=0) % 2, 60, 200).astype(np.uint8)
    found = results(image, blur=0.3)
    assert share([one.std() < 0.7 * image.std() for one in found]) == near(0.3)
    assert all(abs(one.mean() - image.mean()) < 3 for one in found)


@checks("augmentation.noise")
def test_noise():
    """Of 0.5 to 2 % of the gray range."""
    found = results(np.full((SIDE, SIDE), 128, np.uint8), noise=0.6)
    spreads = np.array([one.astype(float).std() for one in found])
    assert share(spreads > 0.5) == near(0.6)
    assert 4 < spreads.max() < 0.022 * 255
    assert 0.0035 * 255 < spreads[spreads > 0.5].min() < 2


@checks("augmentation.jpeg")
def test_jpeg():
    """What is left is what a JPEG file of one of the qualities keeps."""
    image = np.random.default_rng(0).integers(80, 180, (SIDE, SIDE)).astype(np.uint8)
    found = results(image, jpeg=0.25)
    changed = [one for one in found if np.abs(one.astype(int) - image).max() > 1]
    assert len(changed) / SEEDS == near(0.25)
    files = [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, q])[1] for q in range(1, 101)]
    decoded = np.stack([cv2.imdecode(file, cv2.IMREAD_GRAYSCALE) for file in files]).astype(float)
    errors = np.array([np.abs(decoded - one).mean(axis=(1, 2)) for one in changed])
    assert errors.min(axis=1).max() < 2
    qualities = errors.argmin(axis=1) + 1
    assert 38 <= qualities.min() < 50
    assert 85 < qualities.max() <= 96


@checks("augmentation.erase_corner")
def test_erase_corner():
    image = radiograph()
    found = results(image, erase_corner=0.7)
    changed = [np.abs(one.astype(int) - image) > 1 for one in found]
    assert share([c.any() for c in changed]) == near(0.7 * 0.99)
    right, bottom = [], []
    for one, where in zip(found, changed, strict=True):
        if where.sum() < 40:
            continue
        rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
        right.append(columns.max() == SIDE - 1)
        bottom.append(rows.max() == SIDE - 1)
        assert len(set(one[where].tolist())) == 1  # one gray
        assert np.ptp(columns) < 0.31 * SIDE
        assert np.ptp(rows) < 0.26 * SIDE
    assert share(right) == near(0.5, len(right))
    assert share(bottom) == near(0.3, len(bottom))


@checks("augmentation.enabled")
def test_enabled():
    """Off, a batch holds the prepared image to the level; on, the recipe's own settings."""
    cache = cache_of(labelled(0), labelled(1), side=SIDE)
    random = np.random.default_rng(0)
    cache._pixels[:] = random.integers(0, 256, cache._pixels.shape)
    settings = OFF | {"flip": 1.0}
    data = {"samples_per_epoch": 8, "preparation": "nearest"}
    stages = [{"epochs": 1, "image_size": SIDE}]
    for enabled in (False, True):
        batches = batches_of(
            cache, data=data, stages=stages, augmentation=settings | {"enabled": enabled}
        )
        images, targets = batches[0]
        prepared = cache.images(slice(None))
        expected = prepared[..., ::-1] if enabled else prepared
        for image in images[..., 0]:
            # A gamma of 1 rounds.
            assert min(np.abs(image - one).max() for one in expected.astype(float)) <= enabled
        opacity = targets["mask"][0, ..., 1]
        left, right = opacity[:, :12].sum(), opacity[:, 12:].sum()
        assert (right > left) == enabled


@pytest.mark.parametrize(
    "changes",
    [{"rotate": 30}, {"scale": (0.5, 0.8)}, {"shift": 0.3}, {"shear": 20}],
    ids=lambda changes: next(iter(changes)),
)
def test_no_black_border_comes_in(changes):
    """What is moved in from outside repeats the edge: a radiograph without anything dark stays so,
    and its histogram, which equalising goes by, has no heap at 0."""
    image = (120 + radiograph() // 2).astype(np.uint8)
    darkest = image.min()
    moved = results(image, **changes)
    assert any(np.abs(one.astype(int) - image).max() > 5 for one in moved)
    assert min(one.min() for one in moved) >= darkest - 1
    assert max(one.max() for one in moved) <= image.max() + 1


def test_the_mask_goes_beyond_the_edge_as_the_image_does():
    """An opacity that is cut off by the image's edge is so after zooming out, too."""
    image = mask = rectangle(0, 36, 30, 60)
    for seed in range(20):
        found, moved, *_ = augmenter(scale=(0.6, 0.6))(image, mask, *NONE, seed)
        assert np.abs(found.astype(int) - moved).max() <= 1
        assert moved[SIDE // 2, 0] == 255


def test_an_equalised_image_is_equalised_again_and_another_is_not():
    image = equalise(radiograph())
    for preparation in ("equalised", "nearest"):
        augment = augmenter(preparation, gamma=(0.5, 0.5))
        nothing = np.zeros_like(image)
        found = [augment(image, nothing, *NONE, seed)[0] for seed in range(20)]
        moved = max(abs(float(one.mean()) - image.mean()) for one in found)
        assert moved < 5 if preparation == "equalised" else moved > 20
