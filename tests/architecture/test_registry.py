"""The registry: kinds of networks, and the outputs that each kind has."""

import keras
import pytest
from keras import layers

from lungbox import architecture
from lungbox.architecture import heads
from lungbox.architecture.registry import Network, NetworkError, network
from tests.small import registered

SIDE, CLASSES = 48, ("lung opacity", "nodule")


def segments(image_size=SIDE, classes=2, stride=8, image=True):
    inputs = keras.Input((image_size, image_size, 1))
    x = layers.Conv2D(4, stride, strides=stride)(inputs)
    mask = heads.mask(x, classes=classes)
    outputs = {"mask": mask, "boundary": x}  # of another name, for training only
    return keras.Model(inputs, outputs | ({"image": heads.image_score(x, mask)} if image else {}))


def detects(image_size=SIDE, classes=2, edges=4, scored=6, image=False):
    inputs = keras.Input((image_size, image_size, 1))
    x = layers.GlobalAveragePooling2D()(inputs)
    boxes = layers.Reshape((6, edges))(layers.Dense(6 * edges)(x))
    scores = layers.Reshape((scored, classes))(layers.Dense(scored * classes)(x))
    outputs = {"boxes": boxes, "scores": scores}
    return keras.Model(inputs, outputs | ({"image": layers.Dense(1)(x)} if image else {}))


def classifies(image_size=SIDE, classes=2, image=1, named=True):
    inputs = keras.Input((image_size, image_size, 1))
    x = layers.GlobalAveragePooling2D()(inputs)
    outputs = {"classes": layers.Dense(classes)(x), "image": layers.Dense(image)(x)}
    return keras.Model(inputs, outputs if named else list(outputs.values()))


@pytest.fixture(autouse=True)
def networks():
    shared = {"encoder": "none", "image_size": SIDE, "class_names": CLASSES, "multiple": 16}
    with registered():
        network(**shared, stride=8)(segments)
        network(**shared, kind="detection", image_head=False)(detects)
        network(**shared, kind="classification")(classifies)
        yield


def test_networks_of_every_kind_are_built():
    shapes = {
        name: {key: tuple(y.shape) for key, y in architecture.build(name, 80).output.items()}
        for name in ("segments", "detects", "classifies")
    }
    assert shapes == {
        "segments": {
            "mask": (None, 10, 10, 3),
            "boundary": (None, 10, 10, 4),
            "image": (None, 1),
        },
        "detects": {"boxes": (None, 6, 4), "scores": (None, 6, 2)},
        "classifies": {"classes": (None, 2), "image": (None, 1)},
    }
    assert architecture.describe("detects").class_names == CLASSES
    with pytest.raises(NetworkError, match=r"segments takes images .* multiple of 16, not 40"):
        architecture.build("segments", 40)


def test_class_names_of_ones_own():
    """Their number is passed to networks that are built for any; the output is checked against
    it."""
    names = ("effusion", "mass", "hernia")
    assert architecture.build("classifies", class_names=names).output["classes"].shape[1] == 3
    assert architecture.build("detects", class_names=names).output["scores"].shape[2] == 3
    # The registered names are no change, also of networks that are for these only.
    assert architecture.build("unet_lite0", 32, ("lung opacity",)).output["mask"].shape[-1] == 2
    with pytest.raises(NetworkError, match="unet_lite0 is for lung opacity only, not effusion, "):
        architecture.build("unet_lite0", 32, names)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "segments",
            {"classes": 1},
            r"mask \(B, 6, 6, 3\), image \(B, 1\), not mask \(B, 6, 6, 2\)",
        ),
        ("segments", {"stride": 4}, r"mask \(B, 6, 6, 3\), .* not mask \(B, 12, 12, 3\)"),
        ("segments", {"image": False}, r"image \(B, 1\), not mask \(B, 6, 6, 3\)$"),
        ("detects", {"classes": 3}, r"scores \(B, 6, 2\), not boxes .* scores \(B, 6, 3\)"),
        ("detects", {"edges": 5}, r"boxes \(B, 6, 4\), .* not boxes \(B, 6, 5\)"),
        ("detects", {"scored": 5}, r"scores \(B, 6, 2\), not boxes .* scores \(B, 5, 2\)"),
        ("detects", {"image": True}, r"scores \(B, 6, 2\), not .*, image \(B, 1\)"),
        ("classifies", {"classes": 1}, r"classes \(B, 2\), image .* not classes \(B, 1\)"),
        ("classifies", {"image": 2}, r"not classes \(B, 2\), image \(B, 2\)"),
        ("classifies", {"named": False}, "not outputs without names"),
    ],
)
def test_outputs_that_do_not_fit_the_kind(name, options, sentence):
    with pytest.raises(NetworkError, match=sentence) as error:
        architecture.build(name, **options)
    kind = architecture.describe(name).kind
    registered_as = f"{name}, registered as a {kind} network for lung opacity, nodule, must have"
    assert str(error.value).startswith(registered_as)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"kind": "segmentation"}, "a segmentation network has a stride"),
        ({"kind": "detection", "stride": 4}, "others have none"),
        ({"kind": "classification", "image_head": False}, "has an image head"),
    ],
)
def test_contradicting_entries(entry, sentence):
    with pytest.raises(ValueError, match=f"mine: .*{sentence}"):
        Network("mine", segments, encoder="none", image_size=SIDE, **entry)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="two networks are called segments"):
        network(encoder="none", image_size=SIDE, stride=8)(segments)
