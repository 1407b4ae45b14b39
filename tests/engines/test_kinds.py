"""Ensembles of networks of every kind: outputs by name, on both engines."""

from contextlib import contextmanager
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from lungbox import architecture
from lungbox.architecture.registry import _NETWORKS, network
from lungbox.boxes import OperatingPoint, decide
from lungbox.engines import EngineConfig, Member, predict_with_tta, start
from lungbox.weights.entries import Weights
from lungbox.weights.formats.safetensors import save_weights
from lungbox.weights.store import sha256

SIDE, ANCHORS, CLASSES = 32, 6, ("lung opacity", "nodule")


def a_segmentation_network(image_size: int = SIDE) -> keras.Model:
    """Two classes beside the background, no image head."""
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    x = layers.Conv2D(3, 4, strides=4, name="mask_logits")(inputs / 255.0)
    return keras.Model(inputs, {"mask": layers.Softmax(name="mask")(x)}, name="a_segmentation")


def a_detection_network(image_size: int = SIDE) -> keras.Model:
    """Boxes of the last quarter's edges in the order of their corners, no image head."""
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    x = layers.AveragePooling2D(8)(inputs / 255.0)
    x = layers.Flatten()(x)
    corner = layers.Dense(2 * ANCHORS, "sigmoid", name="corner")(x) * 0.5
    side = layers.Dense(2 * ANCHORS, "sigmoid", name="side")(x) * 0.5
    corner, side = (layers.Reshape((ANCHORS, 2))(values) for values in (corner, side))
    boxes = layers.Concatenate()([corner, corner + side])
    scores = layers.Dense(ANCHORS * len(CLASSES), "sigmoid", name="scores")(x)
    scores = layers.Reshape((ANCHORS, len(CLASSES)))(scores)
    return keras.Model(inputs, {"boxes": boxes, "scores": scores}, name="a_detection")


def a_classification_network(image_size: int = SIDE) -> keras.Model:
    """Three labels and an image score; as many numbers an image as an image score has."""
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    x = layers.Flatten()(layers.AveragePooling2D(8)(inputs / 255.0))
    classes = layers.Dense(3, "sigmoid", name="classes")(x)
    image = layers.Dense(1, "sigmoid", name="image")(x)
    return keras.Model(inputs, {"classes": classes, "image": image}, name="a_classification")


@contextmanager
def registered():
    builders = (a_segmentation_network, a_detection_network, a_classification_network)
    for kind, builder in zip(KINDS, builders, strict=True):
        classification = kind == "classification"
        network(
            encoder="none",
            image_size=SIDE,
            kind=kind,
            class_names=LABELS if classification else CLASSES,
            stride=4 if kind == "segmentation" else None,
            image_head=classification,
        )(builder)
    try:
        yield
    finally:
        for builder in builders:
            del _NETWORKS[builder.__name__]


KINDS = ("segmentation", "detection", "classification")
LABELS = ("normal", "not normal", "opacity")


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("kinds"), {}
    with registered():
        for seed, kind in enumerate(KINDS):
            keras.utils.set_random_seed(seed)
            model = architecture.build(f"a_{kind}_network", SIDE)
            path = folder / f"{kind}.safetensors"
            save_weights(model, path)
            entry = Weights(
                architecture=f"a_{kind}_network",
                image_size=SIDE,
                sha256=sha256(path),
                kind=kind,
                class_names=LABELS if kind == "classification" else CLASSES,
            )
            found[kind] = Member(kind, entry, path, 0.25 if kind == "detection" else 0.375)
        yield found


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), np.uint8)


def direct(member, images):
    """What a member's own network predicts, without any ensemble or engine."""
    from lungbox.weights.formats.safetensors import load_weights

    model = architecture.build(member.weights.architecture, SIDE)
    load_weights(model, member.path)
    return model.predict_on_batch(images[..., None].astype(np.float32))


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_members_of_every_kind_side_by_side(members, images, engine):
    """Batches are padded from three to four; the outputs are still each network's own."""
    config = EngineConfig("all", tuple(members.values()), batch_size=4)
    found = start(engine, config).predict(images)
    expected = {kind: direct(member, images) for kind, member in members.items()}
    assert found.masks == pytest.approx(expected["segmentation"]["mask"], abs=1e-5)
    ((boxes, scores, weight),) = found.detections
    assert boxes == pytest.approx(expected["detection"]["boxes"], abs=1e-5)
    assert scores == pytest.approx(expected["detection"]["scores"], abs=1e-5)
    assert weight == 0.25
    assert found.classes == pytest.approx(expected["classification"]["classes"], abs=1e-5)
    opacity = expected["segmentation"]["mask"]
    # 0.5 % of 64 mask pixels is one.
    own = (
        opacity[..., 1:].max(axis=(1, 2, 3)),
        expected["detection"]["scores"].max(axis=(1, 2)),
        expected["classification"]["image"][:, 0],
    )
    assert found.scores == pytest.approx(np.dot((0.375, 0.25, 0.375), own), abs=1e-5)
    assert (opacity[..., 2] > opacity[..., 1]).any()
    config = replace(config, gates=("classification",))
    gated = start(engine, config).predict(images)
    image = expected["classification"]["image"][:, 0]
    assert gated.scores == pytest.approx(image, abs=1e-5)
    assert np.abs(found.scores - image).max() > 0.01
    assert (config.class_names, config.image_labels) == (CLASSES, LABELS)
    assert config.key != replace(config, gates=()).key


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_the_image_score_can_be_made_of_the_mask(members, images, engine):
    """5 % of 64 mask pixels are three; a network without a mask keeps its own score."""
    config = EngineConfig("all", tuple(members.values()), batch_size=4, image_score="mask")
    found = start(engine, config).predict(images)
    expected = {kind: direct(member, images) for kind, member in members.items()}
    opacity = expected["segmentation"]["mask"][..., 1:].max(axis=-1).reshape(len(images), -1)
    assert opacity.shape[1] == 64
    own = (
        np.sort(opacity, axis=1)[:, -3:].mean(axis=1),
        expected["detection"]["scores"].max(axis=(1, 2)),
        expected["classification"]["image"][:, 0],
    )
    assert found.scores == pytest.approx(np.dot((0.375, 0.25, 0.375), own), abs=1e-5)


def test_a_detection_network_alone(members, images):
    """Its image score is that of its most confident box, whatever the class."""
    config = EngineConfig("boxes", (replace(members["detection"], weight=1.0),), batch_size=4)
    found = start("openvino", config).predict(images)
    assert found.masks is None
    assert found.classes is None
    scores = direct(members["detection"], images)["scores"]
    assert found.scores == pytest.approx(scores.max(axis=(1, 2)), abs=1e-5)
    point = OperatingPoint(min_area=0, min_score=0.3, shrink=0)
    boxes, confidences, labels = decide(found.image(1), (200, 100), point)
    assert len(boxes) == len(confidences) == len(labels) > 0
    assert (confidences >= 0.3).all()


def test_mirrored_boxes_are_voters_of_their_own(members, images):
    plain = EngineConfig("boxes", tuple(members.values()), batch_size=4)
    engine = start("openvino", replace(plain, flip=True))
    found = predict_with_tta(engine, images)
    one, other = engine.predict(images), engine.predict(images[:, :, ::-1])
    (first, _, first_weight), (second, scores, weight) = found.detections
    assert first == pytest.approx(one.detections[0][0])
    mirrored = other.detections[0][0]
    assert second[..., 0] == pytest.approx(1 - mirrored[..., 2], abs=1e-6)
    assert second[..., 2] == pytest.approx(1 - mirrored[..., 0], abs=1e-6)
    assert second[..., [1, 3]] == pytest.approx(mirrored[..., [1, 3]])
    assert scores == pytest.approx(other.detections[0][1])
    # Together they have the network's weight, 0.25; the mask, of both views, has its own.
    assert first_weight == weight == 0.125
    assert found.image(0).mask_weight == 0.375
    assert found.classes == pytest.approx((one.classes + other.classes) / 2, abs=1e-6)
    assert found.masks == pytest.approx((one.masks + other.masks[:, :, ::-1]) / 2, abs=1e-6)
