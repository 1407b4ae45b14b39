"""Every key of the section `loss` changes the compiled loss as its formula says."""

import numpy as np
import pytest

from tests.training.keys import checks, trainee_of

pytestmark = pytest.mark.usefixtures("small_networks")

NONE = {"bce": 0, "iou": 0, "image": 0}
COUNT, HEIGHT, WIDTH = 3, 4, 6


def softened(random, *shape):
    return random.uniform(0.05, 0.95, shape).astype(np.float32)


@pytest.fixture(scope="module")
def truth():
    """Masks that are higher at one end, one of them empty; image targets 1, 0 and 0.3."""
    opacity = np.zeros((COUNT, HEIGHT, WIDTH), np.float32)
    opacity[0, 1:3, :2], opacity[2, :, 4:], opacity[2, 0, 0] = 1, 0.75, 1
    edges = np.random.default_rng(1).integers(0, 2, (COUNT, HEIGHT, WIDTH, 4)).astype(np.float32)
    image = np.array([[1], [0], [0.3]], np.float32)
    return {"mask": np.stack([1 - opacity, opacity], axis=-1), "image": image, "edges": edges}


@pytest.fixture(scope="module")
def guess():
    random = np.random.default_rng(2)
    opacity = softened(random, COUNT, HEIGHT, WIDTH)
    mask = np.stack([1 - opacity, opacity], axis=-1)
    edges = softened(random, COUNT, HEIGHT, WIDTH, 4)
    return {"mask": mask, "image": softened(random, COUNT, 1), "edges": edges}


def crossentropy(t, p):
    return float(-np.mean(t * np.log(p) + (1 - t) * np.log(1 - p)))


def overlap(t, p, kind="iou", over="batch", channels="foreground", squared=True):
    """Mean of ratios of sums, each with 1 added to both."""
    groups = [(t, p)] if over == "batch" else list(zip(t, p, strict=True))
    parts = {"foreground": [slice(1, 2)], "all": [slice(None)], "each": [slice(1), slice(1, 2)]}
    ratios = []
    for a, b in groups:
        for part in parts[channels]:
            x, y = a[..., part].astype(float), b[..., part].astype(float)
            both = (x * y).sum()
            if kind == "iou":
                ratios.append((both + 1) / (x.sum() + y.sum() - both + 1))
            else:
                power = 2 if squared else 1
                ratios.append((2 * both + 1) / ((x**power).sum() + (y**power).sum() + 1))
    return float(np.mean(ratios))


def focal(t, p, alpha, gamma):
    t, p = t[..., 1], p[..., 1]
    hit, miss = (1 - p) ** gamma * np.log(p), p**gamma * np.log(1 - p)
    return float(-np.mean(alpha * t * hit + (1 - alpha) * (1 - t) * miss))


def lovasz(t, p):
    """The Jaccard loss of ever more pixels, those of the largest errors first, weighed by how much
    the errors fall."""
    t, p = t[..., 1].ravel() > 0.5, p[..., 1].ravel()
    errors = np.abs(t - p)
    order = np.argsort(-errors)
    falls = -np.diff(np.append(errors[order], 0))
    total = 0.0
    for count, fall in enumerate(falls, start=1):
        wrong = np.zeros(len(t), bool)
        wrong[order[:count]] = True
        mask = t ^ wrong
        total += fall * (1 - (mask & t).sum() / max((mask | t).sum(), 1))
    return float(total)


OVERLAPS = [("batch", "all", True), ("image", "each", False), ("image", "foreground", True)]


def compiled(settings, truth, guess):
    """What the network that a recipe compiles would be told is its loss."""
    model = trainee_of(loss=NONE | settings).training_model
    y, y_pred = ({head: of[head] for head in model.output} for of in (truth, guess))
    return float(model.compute_loss(y=y, y_pred=y_pred))


@checks("loss.bce", "loss.iou", "loss.dice", "loss.over", "loss.channels", "loss.squared")
@pytest.mark.parametrize(("over", "channels", "squared"), OVERLAPS)
def test_overlap_and_cross_entropy(truth, guess, over, channels, squared):
    settings = {"bce": 0.7, "iou": 0.4, "dice": 0.9}
    found = compiled(
        settings | {"over": over, "channels": channels, "squared": squared}, truth, guess
    )
    t, p = truth["mask"], guess["mask"]
    expected = 0.7 * crossentropy(t, p) + 0.4 * (1 - overlap(t, p, "iou", over, channels))
    expected += 0.9 * (1 - overlap(t, p, "dice", over, channels, squared))
    assert found == pytest.approx(expected, rel=1e-4)


@checks("loss.focal", "loss.gamma", "loss.alpha")
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.8, 0.5)])
def test_focal(truth, guess, alpha, gamma):
    found = compiled({"focal": 3.0, "alpha": alpha, "gamma": gamma}, truth, guess)
    assert found == pytest.approx(3 * focal(truth["mask"], guess["mask"], alpha, gamma), rel=1e-4)


@checks("loss.lovasz")
def test_lovasz(truth, guess):
    found = compiled({"lovasz": 0.6}, truth, guess)
    assert found == pytest.approx(0.6 * lovasz(truth["mask"], guess["mask"]), rel=1e-4)


@checks("loss.image", "loss.label_smoothing")
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_image_score(truth, guess, smoothing):
    found = compiled({"image": 0.3, "label_smoothing": smoothing}, truth, guess)
    targets = truth["image"] * (1 - smoothing) + smoothing / 2
    assert found == pytest.approx(0.3 * crossentropy(targets, guess["image"]), rel=1e-4)


@checks("loss.edges")
def test_edges_are_beside_the_others_and_not_smoothed(truth, guess):
    settings = {"edges": 0.2, "bce": 0.5, "label_smoothing": 0.4}
    found = compiled(settings, truth, guess)
    expected = 0.2 * crossentropy(truth["edges"], guess["edges"])
    expected += 0.5 * crossentropy(truth["mask"], guess["mask"])
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_step_goes_down_the_compiled_loss(truth):
    """The gradient is that of the sum: of the image loss alone, nothing that paints the mask
    alone moves."""
    model = trainee_of(
        loss=NONE | {"image": 1.0}, optimizer={"warmup": 0, "weight_decay": 0}
    ).training_model
    before = {v.path: np.array(v) for v in model.trainable_variables}
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    masks = np.zeros((2, 8, 8, 2), np.float32)
    model.train_on_batch(images, {"mask": masks, "image": np.ones((2, 1), np.float32)})
    moved = {v.path for v in model.trainable_variables if not np.array_equal(v, before[v.path])}
    assert "image/bias" in moved
    score = model.predict_on_batch(images)["image"]
    other = trainee_of(loss=NONE | {"image": 1.0}).training_model
    assert score.mean() > other.predict_on_batch(images)["image"].mean()
