"""EfficientNet-Lite0, 1 and 2 as encoders, and the features that every encoder returns.

Encoders take `(B, H, W, 1)` gray 0-255 and scale it as their ImageNet weights need it. For a gray
image, a stem of one channel with its kernel summed over the colours is equivalent to three equal
channels, at a third of the operations.
"""

import math
from dataclasses import dataclass, replace
from string import ascii_lowercase

from keras import KerasTensor, layers

from lungbox.architecture.blocks import conv, depthwise


@dataclass(frozen=True)
class Features:
    """Feature maps of an encoder: `skips` shallow to deep, `bridge` the deepest, and `pooled`, the
    map that its ImageNet classifier averages."""

    skips: tuple[KerasTensor, ...]
    bridge: KerasTensor
    pooled: KerasTensor


@dataclass(frozen=True)
class _Stage:
    blocks: int
    kernel: int
    stride: int
    expansion: int
    filters: int


# Tan and Le, 2019 (EfficientNet-B0), with EfficientNet-Lite's changes: ReLU6, no squeeze-and-
# excitation, and first and last stage, stem and head of one size in all variants.
# https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280
# Compound scaling of each variant: of the stages' channels, and of their blocks.
_SCALING = {
    "EfficientNet-Lite0": (1.0, 1.0),
    "EfficientNet-Lite1": (1.0, 1.1),
    "EfficientNet-Lite2": (1.1, 1.2),
}
VARIANTS = tuple(_SCALING)


def stages(variant: str) -> tuple[_Stage, ...]:
    """The stages of a variant of EfficientNet-Lite.

    >>> [stage.blocks for stage in stages("EfficientNet-Lite1")]
    [1, 3, 3, 4, 4, 5, 1]
    >>> [stage.filters for stage in stages("EfficientNet-Lite2")]
    [16, 24, 48, 88, 120, 208, 352]
    """
    width, depth = _SCALING[variant]
    inner = range(1, len(_STAGES) - 1)
    return tuple(
        replace(
            stage,
            blocks=math.ceil(depth * stage.blocks) if number in inner else stage.blocks,
            filters=_round_to_eight(width * stage.filters),
        )
        for number, stage in enumerate(_STAGES)
    )


def _round_to_eight(channels: float) -> int:
    """The nearest multiple of 8 that is not less than nine tenths."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def block_name(stage: int, position: int) -> str:
    """The prefix of the layer names of a block: stages from 1, blocks from 0.

    >>> block_name(2, 1)
    'block2b'
    """
    return f"block{stage}{ascii_lowercase[position]}"


def efficientnet_lite(
    inputs: KerasTensor, variant: str = "EfficientNet-Lite0", drop_connect: float = 0.0
) -> Features:
    """EfficientNet-Lite on `(B, H, W, 1)` gray, or `(B, H, W, 3)` colour, 0-255.

    Args:
        inputs: the image; with three channels the network is the published one.
        variant: one of `VARIANTS`.
        drop_connect: probability that the last residual branch is dropped during training,
            rising linearly from 0 at the first (Huang et al., 2016, "stochastic depth").

    Returns:
        Skips at strides 2, 4, 8 and 16 (of Lite0 16, 24, 40 and 112 channels), the bridge at stride
        32 (320) and the 1,280 channels that the classifier averages, at stride 32.
    """
    # 0-255 to about -1..1 as the published weights expect: (x - 127) / 128.
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="encoder_scaling")(inputs)
    x = conv(x, _STEM, 3, "stem", stride=2, activation="relu6")
    ends = []
    scaled = stages(variant)
    total = sum(stage.blocks for stage in scaled)
    index = 0
    for number, stage in enumerate(scaled, start=1):
        for position in range(stage.blocks):
            stride = stage.stride if position == 0 else 1
            drop_rate = drop_connect * index / total
            x = _inverted_residual(x, stage, stride, drop_rate, block_name(number, position))
            index += 1
        ends.append(x)
    pooled = conv(x, _HEAD, 1, "top", activation="relu6")
    skips = (ends[0], ends[1], ends[2], ends[4])
    return Features(skips=skips, bridge=x, pooled=pooled)


def _inverted_residual(
    inputs: KerasTensor, stage: _Stage, stride: int, drop_rate: float, name: str
) -> KerasTensor:
    """Expand, depthwise convolution, project; with the input added where shapes are equal."""
    channels = inputs.shape[-1]
    x = inputs
    if stage.expansion != 1:
        x = conv(x, channels * stage.expansion, 1, f"{name}_expand", activation="relu6")
    x = depthwise(x, stage.kernel, f"{name}_filter", stride=stride, activation="relu6")
    x = conv(x, stage.filters, 1, f"{name}_project", activation=None)
    if stride == 1 and channels == stage.filters:
        if drop_rate > 0:
            x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x
