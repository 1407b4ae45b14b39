"""A network that is trained on padded radiographs finds boxes where they are in the file."""

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from lungbox.boxes.geometry import iou
from lungbox.boxes.padding import into_square
from lungbox.datasets.types import Dataset
from lungbox.engines import BatchPrediction
from lungbox.evaluation.predictions import predict_dataset
from lungbox.inference.predictor import load
from lungbox.training.batches import Batches
from lungbox.training.targets import rasterize
from lungbox.weights.entries import Ensemble
from lungbox.weights.manifest import load_manifest, register
from tests.tiny import SIDE, enter_tiny
from tests.training.keys import cache_of, labelled, outputs_of, recipe_of

pytestmark = pytest.mark.usefixtures("small_networks")

BOX = (30, 100, 70, 150)


def picture(folder, size=(120, 200)):
    """Bright in a box."""
    pixels = np.full(size[::-1], 40, np.uint8)
    x1, y1, x2, y2 = BOX
    pixels[y1:y2, x1:x2] = 250
    path = folder / "image-0.png"
    Image.fromarray(pixels).save(path)
    return path


def bright(images):
    """A mask of what is bright in prepared images."""
    opacity = (images > 128).astype(np.float32)[..., None]
    masks = np.concatenate([1 - opacity, opacity], axis=-1)
    return BatchPrediction(masks, np.ones(len(images), np.float32), masks[:, None])


def test_boxes_and_masks_are_of_the_file(own_home, tmp_path, monkeypatch):
    enter_tiny(tmp_path, "masks")
    settings = {"min_area": 0.03, "shrink": 0, "preparation": "padded"}
    register("padded", load_manifest().weights["masks"], Ensemble(members=("masks",), **settings))
    detector, path = load("padded", precision="float32"), picture(tmp_path)
    monkeypatch.setattr(type(detector.engine), "predict", lambda _, images: bright(images))
    findings = detector.predict(path, keep_mask=True)
    assert len(findings.boxes) == 1
    assert iou(findings.boxes, np.array([BOX], np.float32))[0, 0] > 0.7  # of 64 pixels a side
    # The mask covers the file, not the square, in which the box is narrower.
    expected = rasterize(np.array([BOX]), (120, 200), SIDE) / 255
    for mask in (findings.mask[..., 1], expected):
        rows, columns = np.nonzero(mask > 0.5)
        edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert edges == pytest.approx(np.multiply(BOX, SIDE) / (120, 200, 120, 200), abs=2.7)
    dataset = Dataset((labelled(0, (120, 200), [BOX], path=path),))
    predictions = predict_dataset(dataset, detector.engine, tmp_path / "cache")
    assert np.array_equal(predictions.boxes(0, detector.point).boxes, findings.boxes)


def test_training_has_the_boxes_of_the_square():
    """Also at a stage of a smaller size than that of the prepared images."""
    stages = [{"epochs": 1, "image_size": 32}, {"epochs": 1, "image_size": 96}]
    data = {"order": "fixed", "preparation": "padded"}
    recipe = recipe_of(data=data, stages=stages, batch_size=1)
    cache = cache_of(labelled(0, (120, 200), [BOX]), side=96)
    for stage in recipe.stages:
        side = stage.image_size
        _, targets = Batches(cache, recipe, stage, outputs_of(side))[0]
        square = into_square(np.array([BOX], np.float32), (120, 200), 96)
        expected = rasterize(square, (96, 96), side) / 255
        assert targets["mask"][0, ..., 1] == pytest.approx(expected, abs=1e-6)
        rows, columns = np.nonzero(targets["mask"][0, ..., 1] > 0.5)
        # 120 of 200 pixels are 0.6 of the square, from 0.2 on.
        assert columns.min() / side == pytest.approx(0.2 + 0.6 * 30 / 120, abs=0.03)
        assert rows.min() / side == pytest.approx(100 / 200, abs=0.03)


def test_a_teachers_masks_are_not_padded():
    data = {"samples_per_epoch": 4, "preparation": "padded"}
    with pytest.raises(ValidationError, match="preparation = padded: not with distillation"):
        recipe_of(data=data, distillation={"teacher": "default"})
