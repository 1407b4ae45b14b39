"""Detection networks that learn a little in a second: three convolutions as encoder."""

from contextlib import contextmanager

import keras
from keras import layers

from lungbox.architecture import registry
from lungbox.architecture.backbones.efficientnet_lite import Features
from lungbox.architecture.blocks import conv
from lungbox.architecture.detection import networks
from lungbox.architecture.detection.heads import image_score

_SIZE = networks.Size(16, 1, 32, 16, 32, 1, separable=True)


def small_retinanet(
    image_size: int = 64, classes: int = 1, anchor_size: float = 2.0
) -> keras.Model:
    """A RetinaNet with an image head."""
    inputs, features = _encoder(image_size)
    outputs = networks.retinanet(features, image_size, classes, anchor_size, _SIZE)
    return _with_image_head(inputs, features, outputs, "small_retinanet")


def small_fasterrcnn(image_size: int = 64, classes: int = 1) -> keras.Model:
    """A Faster R-CNN with an image head."""
    inputs, features = _encoder(image_size)
    outputs = networks.faster_rcnn(features, image_size, classes, 2.0, _SIZE)
    return _with_image_head(inputs, features, outputs, "small_fasterrcnn")


def small_related(image_size: int = 64, classes: int = 1, relations: int = 4) -> keras.Model:
    """A Faster R-CNN with object relations and an image head."""
    inputs, features = _encoder(image_size)
    outputs = networks.faster_rcnn(features, image_size, classes, 2.0, _SIZE, int(relations))
    return _with_image_head(inputs, features, outputs, "small_related")


def small_rfcn(image_size: int = 64, classes: int = 1) -> keras.Model:
    """An R-FCN with an image head."""
    inputs, features = _encoder(image_size)
    outputs = networks.rfcn(features, image_size, classes, 2.0, _SIZE, bins=3)
    return _with_image_head(inputs, features, outputs, "small_rfcn")


def _encoder(image_size: int):
    inputs = keras.Input((image_size, image_size, 1))
    x = conv(layers.Rescaling(1 / 255)(inputs), 16, 5, "first", stride=4)
    c3 = conv(x, 16, 3, "second", stride=2)
    c4 = conv(c3, 16, 3, "third", stride=2)
    c5 = conv(c4, 16, 3, "fourth", stride=2)
    return inputs, Features((c3, c4), c5, pooled=c5)


def _with_image_head(inputs, features, outputs, name: str) -> keras.Model:
    return keras.Model(inputs, outputs | {"image": image_score(features.pooled)}, name=name)


@contextmanager
def registered_detectors():
    """These are known by name inside."""
    known = dict(registry._NETWORKS)
    for build in (small_retinanet, small_fasterrcnn, small_related, small_rfcn):
        registry.network(encoder="none", image_size=64, kind="detection")(build)
    try:
        yield
    finally:
        registry._NETWORKS.clear()
        registry._NETWORKS.update(known)
