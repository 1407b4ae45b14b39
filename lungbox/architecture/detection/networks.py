"""The detection networks: encoder x pyramid x heads.

Outputs are those of `registry`. The raw outputs that training needs are layers of the same graph:
`anchors` of RetinaNet, `rpn` and `rois` of Faster R-CNN, each `(B, N, 4 + C + 4)`: anchors or
proposals, class logits and deltas.
"""

from dataclasses import dataclass

import keras
from keras import KerasTensor, layers

from lungbox.architecture.backbones import efficientnet_lite
from lungbox.architecture.backbones.efficientnet_lite import Features
from lungbox.architecture.backbones.keras_applications import Taps, application
from lungbox.architecture.detection.anchors import Anchors, WithAnchors
from lungbox.architecture.detection.decode import Decode
from lungbox.architecture.detection.heads import image_score, predict_anchors
from lungbox.architecture.detection.pooling import RoIAlign
from lungbox.architecture.detection.proposals import Proposals
from lungbox.architecture.detection.pyramid import feature_pyramid
from lungbox.architecture.detection.relation import ObjectRelation
from lungbox.architecture.registry import network

_RATIOS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Size:
    """The widths of a detector.

    Attributes:
        pyramid: channels of each level.
        depth: convolutions of RetinaNet's subnets.
        dense: units of Faster R-CNN's two dense layers.
        proposals: of Faster R-CNN, and `candidates` for them.
        samples: of RoIAlign.
        separable: whether 3x3 convolutions are depthwise-separable.
    """

    pyramid: int
    depth: int
    dense: int
    proposals: int
    candidates: int
    samples: int
    separable: bool


# The layers of ResNet50 at the end of its stages, at strides 8, 16 and 32.
_RESNET50 = Taps(("conv3_block4_out", "conv4_block6_out"), "conv5_block3_out")
_LARGE = Size(256, 4, 1024, 256, 1000, 2, separable=False)
_LIGHT = Size(96, 3, 256, 64, 256, 1, separable=True)


@network(encoder="EfficientNet-Lite0", image_size=256, kind="detection")
def retinanet_lite0(
    image_size: int = 256,
    classes: int = 1,
    drop_connect: float = 0.1,
    dropout: float = 0.2,
    anchor_size: float = 2.0,
) -> keras.Model:
    """A light RetinaNet on EfficientNet-Lite0 for CPUs.

    Args:
        image_size: side of the input in pixels, a multiple of 32.
        classes: of boxes.
        drop_connect: highest probability that a residual branch is dropped in training.
        dropout: rate of the dropout before the image head, in training.
        anchor_size: see `Anchors.size`.
    """
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    features = efficientnet_lite.efficientnet_lite(inputs, "EfficientNet-Lite0", drop_connect)
    outputs = retinanet(features, image_size, classes, anchor_size, _LIGHT)
    outputs["image"] = image_score(features.pooled, dropout)
    return keras.Model(inputs, outputs, name="retinanet_lite0")


@network(encoder="EfficientNet-Lite0", image_size=256, kind="detection")
def fasterrcnn_lite0(
    image_size: int = 256,
    classes: int = 1,
    drop_connect: float = 0.1,
    dropout: float = 0.2,
    anchor_size: float = 2.5,
) -> keras.Model:
    """A light Faster R-CNN on EfficientNet-Lite0; arguments as `retinanet_lite0`."""
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    features = efficientnet_lite.efficientnet_lite(inputs, "EfficientNet-Lite0", drop_connect)
    outputs = faster_rcnn(features, image_size, classes, anchor_size, _LIGHT)
    outputs["image"] = image_score(features.pooled, dropout)
    return keras.Model(inputs, outputs, name="fasterrcnn_lite0")


@network(encoder="ResNet50", image_size=800, kind="detection", image_head=False)
def retinanet_resnet50(
    image_size: int = 800, classes: int = 1, anchor_size: float = 4.0
) -> keras.Model:
    """RetinaNet on ResNet50, with 256 channels in its pyramid, as published."""
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    features = application("ResNet50", inputs, _RESNET50)
    outputs = retinanet(features, image_size, classes, anchor_size, _LARGE)
    return keras.Model(inputs, outputs, name="retinanet_resnet50")


@network(encoder="ResNet50", image_size=1024, kind="detection", image_head=False)
def fasterrcnn_resnet50(
    image_size: int = 1024, classes: int = 1, anchor_size: float = 4.0, relations: int = 0
) -> keras.Model:
    """Faster R-CNN on ResNet50, with 256 channels in its pyramid, as published.

    Args:
        image_size: side of the input in pixels, a multiple of 32.
        classes: of boxes.
        anchor_size: see `Anchors.size`.
        relations: heads of an object relation module after each dense layer, 16 as published; none
            where 0.
    """
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    features = application("ResNet50", inputs, _RESNET50)
    outputs = faster_rcnn(features, image_size, classes, anchor_size, _LARGE, int(relations))
    return keras.Model(inputs, outputs, name="fasterrcnn_resnet50")


@network(encoder="ResNet50", image_size=1024, kind="detection", image_head=False)
def rfcn_resnet50(
    image_size: int = 1024, classes: int = 1, anchor_size: float = 4.0
) -> keras.Model:
    """R-FCN on ResNet50 with deformable position-sensitive pooling, on a pyramid."""
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    features = application("ResNet50", inputs, _RESNET50)
    outputs = rfcn(features, image_size, classes, anchor_size, _LARGE)
    return keras.Model(inputs, outputs, name="rfcn_resnet50")


def retinanet(
    features: Features, image_size: int, classes: int, anchor_size: float, size: Size
) -> dict[str, KerasTensor]:
    """RetinaNet (Lin et al., *Focal Loss for Dense Object Detection*, ICCV 2017): the outputs
    `boxes` and `scores`. 9 anchors at each position."""
    anchors = Anchors(anchor_size, per_octave=3, ratios=_RATIOS)
    levels = feature_pyramid(features, size.pyramid, separable=size.separable)
    logits, deltas = predict_anchors(
        levels, classes, anchors.count, size.depth, separable=size.separable
    )
    raw = WithAnchors(image_size, anchors, name="anchors")(logits, deltas)
    boxes, scores = Decode(name="decoded")(raw)
    return {"boxes": boxes, "scores": scores}


def faster_rcnn(
    features: Features,
    image_size: int,
    classes: int,
    anchor_size: float,
    size: Size,
    relations: int = 0,
) -> dict[str, KerasTensor]:
    """Faster R-CNN (Ren et al., NeurIPS 2015) on a pyramid (Lin et al., CVPR 2017): the outputs
    `boxes` and `scores`. 3 anchors at each position; the deltas of the second stage are the same
    for all classes. `relations` are the heads of an `ObjectRelation` after each dense layer."""
    levels, proposals = _propose(features, image_size, anchor_size, size)
    x = RoIAlign(samples=size.samples, name="roi_align")(proposals, levels)
    x = layers.Reshape((proposals.shape[1], -1), name="roi_flat")(x)
    for number in (1, 2):
        x = layers.Dense(size.dense, activation="relu", name=f"roi_dense{number}")(x)
        if relations:
            x = ObjectRelation(relations, name=f"relation{number}")(x, proposals)
    small = keras.initializers.RandomNormal(stddev=0.001)
    logits = layers.Dense(1 + classes, name="roi_class", dtype="float32")(x)
    deltas = layers.Dense(4, kernel_initializer=small, name="roi_box", dtype="float32")(x)
    return _decoded(proposals, logits, deltas)


def rfcn(
    features: Features, image_size: int, classes: int, anchor_size: float, size: Size, bins: int = 7
) -> dict[str, KerasTensor]:
    """R-FCN (Dai et al., NeurIPS 2016) on a pyramid: the outputs `boxes` and `scores`.

    Each bin of a proposal is pooled from maps of its own, and the mean over the bins is the result:
    no layer runs for each proposal, but one of offsets, by which the bins move (Dai et al.,
    *Deformable Convolutional Networks*, ICCV 2017).
    """
    levels, proposals = _propose(features, image_size, anchor_size, size)
    x = RoIAlign(bins, size.samples, name="offset_align")(proposals, levels)
    x = layers.Reshape((proposals.shape[1], -1), name="offset_flat")(x)
    offsets = layers.Dense(bins**2 * 2, kernel_initializer="zeros", name="offset", dtype="float32")
    shifts = layers.Reshape((proposals.shape[1], bins, bins, 2), name="offsets")(offsets(x))

    def voted(channels: int, name: str) -> KerasTensor:
        """`(B, K, channels)`: the mean of the bins of position-sensitive maps."""
        small = keras.initializers.RandomNormal(stddev=0.01)
        maps = layers.Conv2D(
            bins**2 * channels, 1, kernel_initializer=small, name=name, dtype="float32"
        )
        align = RoIAlign(bins, size.samples, position_sensitive=True, name=f"{name}_align")
        pooled = align(proposals, [maps(level) for level in levels], shifts)
        count = proposals.shape[1]
        flat = layers.Reshape((count, bins**2, channels), name=f"{name}_flat")(pooled)
        mean = layers.AveragePooling2D((1, bins**2), name=f"{name}_mean", dtype="float32")(flat)
        return layers.Reshape((count, channels), name=f"{name}_vote", dtype="float32")(mean)

    return _decoded(proposals, voted(1 + classes, "roi_class"), voted(4, "roi_box"))


def _propose(
    features: Features, image_size: int, anchor_size: float, size: Size
) -> tuple[list[KerasTensor], KerasTensor]:
    """The levels P3 to P6 and the proposals `(B, K, 4)`, from 3 anchors at each position."""
    anchors = Anchors(anchor_size, per_octave=1, ratios=_RATIOS)
    levels = feature_pyramid(features, size.pyramid, separable=size.separable)
    logits, deltas = predict_anchors(levels, 1, anchors.count, 1, "rpn_", separable=size.separable)
    raw = WithAnchors(image_size, anchors, name="rpn")(logits, deltas)
    return list(levels[:4]), Proposals(size.proposals, size.candidates, name="proposals")(raw)


def _decoded(
    proposals: KerasTensor, logits: KerasTensor, deltas: KerasTensor
) -> dict[str, KerasTensor]:
    """The outputs from proposals `(B, K, 4)`, logits `(B, K, 1 + C)` and deltas `(B, K, 4)`."""
    rois = layers.Concatenate(name="rois", dtype="float32")([proposals, logits, deltas])
    boxes, scores = Decode(activation="softmax", name="decoded")(rois)
    return {"boxes": boxes, "scores": scores}
