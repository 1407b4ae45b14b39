"""Maps that an earlier run kept are those of the same images, row by row."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from lungbox import datasets
from lungbox.boxes import OperatingPoint, RawPrediction, decide, geometry
from lungbox.datasets import store
from lungbox.datasets.phantom import write_rsna
from lungbox.engines import BatchPrediction, EngineConfig
from lungbox.evaluation.predictions import DatasetPredictions, predict_dataset, to_uint8
from lungbox.radiograph import RadiographError, prepare, read


class _Means:
    """An engine whose score of an image is the mean of its pixels, and so its mask everywhere."""

    name, precision = "means", "float32"

    def __init__(self):
        self.config = _Config("means", (), batch_size=2)
        self.asked = 0

    def predict(self, images):
        self.asked += len(images)
        scores = images.mean(axis=(1, 2)).astype(np.float32) / 255
        masks = np.broadcast_to(scores[:, None, None, None], (len(images), 4, 4, 2))
        return BatchPrediction(masks, scores, None)


class _Config(EngineConfig):
    image_size = 64


@pytest.fixture
def dataset(tmp_path):
    write_rsna(tmp_path / "data", count=5, size=96)
    return datasets.load(tmp_path / "data")


def _unreadable(path):
    def fail(asked):
        if asked == path:
            raise RadiographError("its decoder was ended")
        return read(asked)

    return fail


def _check(predictions):
    for row, image in enumerate(predictions.dataset.images):
        expected = prepare(read(image.path).pixels, 64).mean() / 255
        assert predictions.scores[row] == pytest.approx(expected, abs=1e-6)
        assert predictions.opacity[row] == pytest.approx(255 * expected, abs=0.5)


def test_they_are_predicted_once(dataset, tmp_path):
    engine = _Means()
    for _ in range(2):
        _check(predict_dataset(dataset, engine, tmp_path / "cache"))
    assert engine.asked == 5


def test_another_image_that_cannot_be_read(dataset, tmp_path, monkeypatch):
    """For the moment, with nothing changed on the disk: so many are read each time, but others."""
    engine, cache = _Means(), tmp_path / "cache"
    for failing in (1, 3):
        monkeypatch.setattr(store, "read", _unreadable(dataset.images[failing].path))
        predictions = predict_dataset(dataset, engine, cache)
        assert len(predictions.dataset) == 4
        _check(predictions)
        shutil.rmtree(cache / "prepared")  # caches may be deleted at any time


def test_masks_of_several_classes_are_decided_as_they_were_predicted():
    """Class 1 has 0.4 and no other more; the background is what the classes leave over, 0.3."""
    mask = np.full((1, 12, 20, 3), (0.3, 0.4, 0.3), np.float32)
    mask[:, :, 10:] = (0.8, 0.1, 0.1)
    image = datasets.LabelledRadiograph(
        "i", Path("i.png"), "rsna", (200, 120), geometry.as_boxes([]), False, "", "patient"
    )
    stored = DatasetPredictions(datasets.Dataset((image,)), to_uint8(mask), np.ones(1, np.float32))
    point = OperatingPoint("argmax", min_area=0, shrink=0)
    expected = decide(RawPrediction(1.0, mask[0]), (200, 120), point)
    found = stored.boxes(0, point)
    assert found.boxes.tolist() == expected.boxes.tolist() == [[0, 0, 100, 120]]
    assert found.labels.tolist() == expected.labels.tolist() == [0]
