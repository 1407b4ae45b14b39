"""SE-ResNeXt101 (32x4d) as an encoder: residual blocks of grouped convolutions, with
squeeze-and-excitation."""

from keras import KerasTensor, layers

from lungbox.architecture.attention import squeeze_excitation
from lungbox.architecture.backbones.efficientnet_lite import Features
from lungbox.architecture.backbones.keras_applications import TORCH, three_channels
from lungbox.architecture.blocks import conv

# Xie et al., CVPR 2017 (ResNeXt: 32 groups, 4 channels a group in the first stage), with the
# squeeze-and-excitation of Hu et al., CVPR 2018. With ImageNet's classifier it has 48.96 million
# parameters.
_BLOCKS = (3, 4, 23, 3)
_GROUPS, _WIDTH, _EXPANSION, _REDUCTION = 32, 4, 4, 16


def se_resnext101(inputs: KerasTensor) -> Features:
    """SE-ResNeXt101 (32x4d) on `(B, H, W, 1)` gray 0-255.

    Returns:
        Skips at strides 2, 4, 8 and 16 (64, 256, 512 and 1,024 channels), the bridge at stride 32
        (2,048), which is also the map that the classifier averages.
    """
    x = three_channels(inputs, TORCH)
    x = conv(x, 64, 7, "stem", stride=2)
    ends = [x]
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    for number, blocks in enumerate(_BLOCKS):
        channels = 64 * 2**number
        for position in range(blocks):
            stride = 2 if position == 0 and number > 0 else 1
            x = _block(x, channels, stride, f"stage{number + 1}_block{position + 1}")
        ends.append(x)
    return Features(skips=tuple(ends[:-1]), bridge=x, pooled=x)


def _block(inputs: KerasTensor, channels: int, stride: int, name: str) -> KerasTensor:
    """1x1, grouped 3x3 and 1x1 convolution, weighed by squeeze-and-excitation, plus the input."""
    inner = channels * _WIDTH * _GROUPS // 64
    outer = channels * _EXPANSION
    x = conv(inputs, inner, 1, f"{name}_reduce")
    x = conv(x, inner, 3, f"{name}_grouped", stride=stride, groups=_GROUPS)
    x = conv(x, outer, 1, f"{name}_expand", activation=None)
    x = squeeze_excitation(x, f"{name}_se", _REDUCTION)
    shortcut = inputs
    if stride != 1 or inputs.shape[-1] != outer:
        shortcut = conv(inputs, outer, 1, f"{name}_shortcut", stride=stride, activation=None)
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.Activation("relu", name=f"{name}_out")(x)
