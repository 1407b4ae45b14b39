"""The segmentation networks: encoder x decoder x head.

Outputs are those of `registry`. The networks called `_reference` are the published system's own,
from the same parts with other arguments; they have no image head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras
from keras import KerasTensor

from lungbox.architecture import attention, decoders, heads
from lungbox.architecture.backbones import efficientnet_lite
from lungbox.architecture.backbones.keras_applications import IMAGE, Taps, application
from lungbox.architecture.registry import network

Decoder = Callable[[efficientnet_lite.Features], KerasTensor]

# The layers that the reference system takes from its encoders. In ResNet152 they are those of
# ResNet50, which leaves out 30 of the 36 blocks of the fourth stage.
_RESNET_REFERENCE = Taps(
    (IMAGE, "conv1_relu", "conv2_block3_out", "conv3_block4_out"), "conv4_block6_out"
)
_RESNET_FULL = Taps(
    (IMAGE, "conv1_relu", "conv2_block3_out", "conv3_block8_out"), "conv4_block36_out"
)
_DENSENET = Taps((IMAGE, "conv1_relu", "pool2_relu", "pool3_relu"), "pool4_relu")
_VGG_REFERENCE = Taps(
    ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3"), "block5_conv3"
)
_VGG_FULL = Taps(("block1_conv2", "block2_conv2", "block3_conv4", "block4_conv4"), "block5_conv4")
_ASPP_REFERENCE = Taps(("conv2_block2_out",), "conv4_block6_out")
_ASPP_FULL = Taps(("conv2_block3_out",), "conv4_block36_out")


@dataclass(frozen=True)
class _Parts:
    """The parts of one of the four large networks."""

    encoder: str
    taps: Taps
    decode: Decoder
    activation: heads.Activation = "softmax"


@network(encoder="EfficientNet-Lite0", image_size=256, stride=4)
def unet_lite0(
    image_size: int = 256, drop_connect: float = 0.1, dropout: float = 0.2
) -> keras.Model:
    """A light U-Net on EfficientNet-Lite0 for CPUs: the shipped default.

    Args:
        image_size: side of the input in pixels, a multiple of 32.
        drop_connect: highest probability that a residual branch is dropped in training.
        dropout: rate of the dropout before the image head, in training.
    """
    return _light_unet("unet_lite0", "EfficientNet-Lite0", image_size, drop_connect, dropout)


@network(encoder="EfficientNet-Lite1", image_size=256, stride=4)
def unet_lite1(
    image_size: int = 256, drop_connect: float = 0.1, dropout: float = 0.2
) -> keras.Model:
    """A light U-Net on EfficientNet-Lite1; arguments as `unet_lite0`."""
    return _light_unet("unet_lite1", "EfficientNet-Lite1", image_size, drop_connect, dropout)


@network(encoder="EfficientNet-Lite2", image_size=256, stride=4)
def unet_lite2(
    image_size: int = 256, drop_connect: float = 0.1, dropout: float = 0.2
) -> keras.Model:
    """A light U-Net on EfficientNet-Lite2; arguments as `unet_lite0`."""
    return _light_unet("unet_lite2", "EfficientNet-Lite2", image_size, drop_connect, dropout)


@network(encoder="ResNet152", image_size=128, stride=1)
def unet_resnet152(image_size: int = 128, dropout: float = 0.2) -> keras.Model:
    """A U-Net on ResNet152, all 36 blocks of its fourth stage."""
    parts = _Parts("ResNet152", _RESNET_FULL, decoders.unet)
    return _with_image_head("unet_resnet152", parts, image_size, dropout)


@network(encoder="DenseNet121", image_size=128, stride=1)
def unet_densenet121(image_size: int = 128, dropout: float = 0.2) -> keras.Model:
    """A U-Net on DenseNet121 up to its fourth pooling."""
    parts = _Parts("DenseNet121", _DENSENET, decoders.unet)
    return _with_image_head("unet_densenet121", parts, image_size, dropout)


@network(encoder="VGG19", image_size=128, stride=1)
def unet_vgg19_attention(image_size: int = 128, dropout: float = 0.2) -> keras.Model:
    """A U-Net on VGG19 with spatial attention on skips and bridge."""
    decode = partial(decoders.unet, attention=attention.spatial)
    parts = _Parts("VGG19", _VGG_FULL, decode)
    return _with_image_head("unet_vgg19_attention", parts, image_size, dropout)


@network(encoder="ResNet152", image_size=128, stride=1)
def aspp_resnet152(image_size: int = 128, dropout: float = 0.2) -> keras.Model:
    """Atrous spatial pyramid pooling on ResNet152, all 36 blocks of its fourth stage."""
    parts = _Parts("ResNet152", _ASPP_FULL, decoders.aspp)
    return _with_image_head("aspp_resnet152", parts, image_size, dropout)


@network(encoder="ResNet152", image_size=128, stride=1, image_head=False, reference=True)
def unet_resnet152_reference(image_size: int = 128) -> keras.Model:
    """The reference system's U-Net on the first part of ResNet152 (its model 1)."""
    parts = _Parts("ResNet152", _RESNET_REFERENCE, decoders.unet)
    return _reference_network("unet_resnet152_reference", parts, image_size)


@network(encoder="DenseNet121", image_size=128, stride=1, image_head=False, reference=True)
def unet_densenet121_reference(image_size: int = 128) -> keras.Model:
    """The reference system's U-Net on DenseNet121 (its model 2)."""
    parts = _Parts("DenseNet121", _DENSENET, decoders.unet)
    return _reference_network("unet_densenet121_reference", parts, image_size)


@network(encoder="VGG19", image_size=128, stride=1, image_head=False, reference=True)
def unet_vgg19_attention_reference(image_size: int = 128) -> keras.Model:
    """The reference system's U-Net on VGG19 with squeeze-and-excitation (its model 3)."""
    decode = partial(decoders.unet, attention=attention.squeeze_excitation)
    parts = _Parts("VGG19", _VGG_REFERENCE, decode, "sigmoid")
    return _reference_network("unet_vgg19_attention_reference", parts, image_size)


@network(encoder="ResNet152", image_size=128, stride=1, image_head=False, reference=True)
def aspp_resnet152_reference(image_size: int = 128) -> keras.Model:
    """The reference system's ASPP on the first part of ResNet152 (its model 4)."""
    parts = _Parts("ResNet152", _ASPP_REFERENCE, decoders.aspp, "sigmoid")
    return _reference_network("aspp_resnet152_reference", parts, image_size)


def _light_unet(
    name: str, encoder: str, image_size: int, drop_connect: float, dropout: float
) -> keras.Model:
    """One of the light networks."""
    # 1. Input
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    # 2. Encoder, decoder, heads
    features = efficientnet_lite.efficientnet_lite(inputs, encoder, drop_connect)
    mask = heads.mask(decoders.light_unet(features))
    image = heads.image_score(features.pooled, mask, dropout)
    # 3. Model
    return keras.Model(inputs, {"mask": mask, "image": image}, name=name)


def _with_image_head(name: str, parts: _Parts, image_size: int, dropout: float) -> keras.Model:
    """One of the four with an image head, scaled as its encoder's ImageNet weights expect."""
    # 1. Input
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    # 2. Encoder, decoder, heads
    features = application(parts.encoder, inputs, parts.taps)
    mask = heads.mask(parts.decode(features), parts.activation)
    image = heads.image_score(features.pooled, mask, dropout)
    # 3. Model
    return keras.Model(inputs, {"mask": mask, "image": image}, name=name)


def _reference_network(name: str, parts: _Parts, image_size: int) -> keras.Model:
    """One of the four as published: scaled to -1..1, no image head."""
    # 1. Input
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    # 2. Encoder, decoder, head
    features = application(parts.encoder, inputs, parts.taps, scaling="symmetric")
    mask = heads.mask(parts.decode(features), parts.activation)
    # 3. Model
    return keras.Model(inputs, {"mask": mask}, name=name)
