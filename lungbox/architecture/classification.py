"""The classification networks: an encoder, its average-pooled features, and a head.

Each is built for any number of classes, see `heads.classes`: `architecture.build(name,
class_names=...)`. As registered they tell normal from abnormal radiographs.
"""

import keras

from lungbox.architecture import heads
from lungbox.architecture.backbones.efficientnet_lite import efficientnet_lite
from lungbox.architecture.backbones.keras_applications import Taps, application
from lungbox.architecture.backbones.se_resnext import se_resnext101
from lungbox.architecture.registry import network
from lungbox.datasets.findings import ABNORMAL

# The last layer before pooling.
_LAST = {
    "EfficientNetB4": "top_activation",
    "InceptionResNetV2": "conv_7b_ac",
    "Xception": "block14_sepconv2_act",
    "DenseNet169": "relu",
    "ResNet50": "conv5_block3_out",
}
_CLASSIFIER = {"kind": "classification", "class_names": (ABNORMAL,)}


@network(encoder="EfficientNet-Lite0", image_size=256, **_CLASSIFIER)
def classifier_lite0(
    image_size: int = 256, classes: int = 1, drop_connect: float = 0.1, dropout: float = 0.2
) -> keras.Model:
    """A light classifier on EfficientNet-Lite0 for CPUs.

    Args:
        image_size: side of the input in pixels, a multiple of 32.
        classes: their number, see `heads.classes`.
        drop_connect: highest probability that a residual branch is dropped in training.
        dropout: rate of the dropout before the head, in training.
    """
    return _light("Lite0", image_size, classes, drop_connect, dropout)


@network(encoder="EfficientNet-Lite1", image_size=256, **_CLASSIFIER)
def classifier_lite1(
    image_size: int = 256, classes: int = 1, drop_connect: float = 0.1, dropout: float = 0.2
) -> keras.Model:
    """A light classifier on EfficientNet-Lite1; arguments as `classifier_lite0`."""
    return _light("Lite1", image_size, classes, drop_connect, dropout)


@network(encoder="EfficientNet-Lite2", image_size=256, **_CLASSIFIER)
def classifier_lite2(
    image_size: int = 256, classes: int = 1, drop_connect: float = 0.1, dropout: float = 0.2
) -> keras.Model:
    """A light classifier on EfficientNet-Lite2; arguments as `classifier_lite0`."""
    return _light("Lite2", image_size, classes, drop_connect, dropout)


@network(encoder="EfficientNetB4", image_size=384, **_CLASSIFIER)
def classifier_efficientnet_b4(
    image_size: int = 384, classes: int = 1, dropout: float = 0.4
) -> keras.Model:
    """A classifier on EfficientNet-B4, VinBigData's published gate."""
    return _on("classifier_efficientnet_b4", "EfficientNetB4", image_size, classes, dropout)


@network(encoder="InceptionResNetV2", image_size=320, **_CLASSIFIER)
def classifier_inception_resnet_v2(
    image_size: int = 320, classes: int = 1, dropout: float = 0.2
) -> keras.Model:
    """A classifier on InceptionResNetV2, one of three of RSNA's first place; from 96 px on."""
    return _on("classifier_inception_resnet_v2", "InceptionResNetV2", image_size, classes, dropout)


@network(encoder="Xception", image_size=320, **_CLASSIFIER)
def classifier_xception(
    image_size: int = 320, classes: int = 1, dropout: float = 0.2
) -> keras.Model:
    """A classifier on Xception, one of three of RSNA's first place."""
    return _on("classifier_xception", "Xception", image_size, classes, dropout)


@network(encoder="DenseNet169", image_size=320, **_CLASSIFIER)
def classifier_densenet169(
    image_size: int = 320, classes: int = 1, dropout: float = 0.2
) -> keras.Model:
    """A classifier on DenseNet169, one of three of RSNA's first place."""
    return _on("classifier_densenet169", "DenseNet169", image_size, classes, dropout)


@network(encoder="ResNet50", image_size=256, **_CLASSIFIER)
def classifier_resnet50(
    image_size: int = 256, classes: int = 1, dropout: float = 0.2
) -> keras.Model:
    """A classifier on ResNet50."""
    return _on("classifier_resnet50", "ResNet50", image_size, classes, dropout)


@network(encoder="SE-ResNeXt101", image_size=256, **_CLASSIFIER)
def classifier_se_resnext101(
    image_size: int = 256, classes: int = 1, dropout: float = 0.2
) -> keras.Model:
    """A classifier on SE-ResNeXt101 (32x4d), the encoder of RSNA's second place."""
    # 1. Input
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    # 2. Encoder, head
    outputs = heads.classes(se_resnext101(inputs).pooled, classes, dropout)
    # 3. Model
    return keras.Model(inputs, outputs, name="classifier_se_resnext101")


def _light(
    variant: str, image_size: int, classes: int, drop_connect: float, dropout: float
) -> keras.Model:
    """One of the light networks."""
    # 1. Input
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    # 2. Encoder, head
    features = efficientnet_lite(inputs, f"EfficientNet-{variant}", drop_connect)
    outputs = heads.classes(features.pooled, classes, dropout)
    # 3. Model
    return keras.Model(inputs, outputs, name=f"classifier_{variant.lower()}")


def _on(name: str, encoder: str, image_size: int, classes: int, dropout: float) -> keras.Model:
    """A network on one of `keras.applications`."""
    # 1. Input
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    # 2. Encoder, head
    features = application(encoder, inputs, Taps((), _LAST[encoder]))
    outputs = heads.classes(features.pooled, classes, dropout)
    # 3. Model
    return keras.Model(inputs, outputs, name=name)
