"""EfficientNet-Lite0 as an encoder, and the features that every encoder returns.

Encoders take `(B, H, W, 1)` gray 0-255 and scale it as their ImageNet weights need it. For a gray
image, a stem of one channel with its kernel summed over the colours is equivalent to three equal
channels, at a third of the operations.
"""

from dataclasses import dataclass

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
# excitation. https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
_LITE0_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_LITE0_STEM = 32
_LITE0_HEAD = 1280


def efficientnet_lite0(inputs: KerasTensor, drop_connect: float = 0.0) -> Features:
    """EfficientNet-Lite0 on `(B, H, W, 1)` gray, or `(B, H, W, 3)` colour, 0-255.

    Args:
        inputs: the image; with three channels the network is the published one.
        drop_connect: probability that the last residual branch is dropped during training,
            rising linearly from 0 at the first (Huang et al., 2016, "stochastic depth").

    Returns:
        Skips at strides 2, 4, 8 and 16 (16, 24, 40 and 112 channels), the bridge at stride 32
        (320) and the 1,280 channels that the classifier averages, at stride 32.
    """
    # 0-255 to about -1..1 as the published weights expect: (x - 127) / 128.
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="encoder_scaling")(inputs)
    x = conv(x, _LITE0_STEM, 3, "stem", stride=2, activation="relu6")
    ends = []
    total = sum(stage.blocks for stage in _LITE0_STAGES)
    index = 0
    for number, stage in enumerate(_LITE0_STAGES, start=1):
        for position in range(stage.blocks):
            name = f"block{number}{'abcd'[position]}"
            stride = stage.stride if position == 0 else 1
            x = _inverted_residual(x, stage, stride, drop_connect * index / total, name)
            index += 1
        ends.append(x)
    pooled = conv(x, _LITE0_HEAD, 1, "top", activation="relu6")
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
