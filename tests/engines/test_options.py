"""A network's options are those that its weights were trained with, wherever it is built."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from lungbox import architecture
from lungbox.engines import EngineConfig, Member, start
from lungbox.engines.graphs import structure
from lungbox.weights.entries import Weights
from lungbox.weights.formats.safetensors import WeightsError, save_weights
from tests.architecture.tester import chests
from tests.small_detectors import registered_detectors

SIDE = 64


@pytest.fixture
def detectors():
    with registered_detectors():
        yield


def config_of(path, network, **options):
    weights = Weights(
        architecture=network, image_size=SIDE, kind="detection", sha256="1" * 64, options=options
    )
    return EngineConfig(network, (Member(network, weights, path, 1.0),), batch_size=2)


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_the_anchors_are_those_of_training(engine, detectors, tmp_path, monkeypatch):
    """With others, boxes have another size, though the weights fit."""
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))
    keras.utils.set_random_seed(4)
    model = architecture.build("small_retinanet", SIDE, anchor_size=4)
    path = tmp_path / "weights.safetensors"
    save_weights(model, path)
    images = chests(SIDE, 2)
    expected = model.predict(images, verbose=0)
    ours, others = (config_of(path, "small_retinanet", **o) for o in ({"anchor_size": 4.0}, {}))
    pixels = images[..., 0].astype(np.uint8)
    areas = {}
    for name, config in (("ours", ours), ("others", others)):
        boxes, _, _ = start(engine, config).predict(pixels).detections[0]
        areas[name] = np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1).mean()
    true = np.prod(expected["boxes"][..., 2:] - expected["boxes"][..., :2], axis=-1).mean()
    assert areas["ours"] == pytest.approx(true, rel=0.02)
    assert areas["others"] < 0.9 * true
    assert ours.key != others.key
    assert structure(ours) != structure(others)
    assert structure(others) == structure(replace(others))


def test_weights_of_relations_fit_with_their_option_alone(detectors, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(architecture.build("small_related", SIDE, relations=2), path)
    start("keras", config_of(path, "small_related", relations=2.0))
    with pytest.raises(WeightsError):
        start("keras", config_of(path, "small_fasterrcnn"))
