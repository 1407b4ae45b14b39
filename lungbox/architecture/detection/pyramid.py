"""Feature pyramid: maps of one width at strides 8 to 128, from any encoder."""

from keras import KerasTensor, layers

from lungbox.architecture.backbones.efficientnet_lite import Features
from lungbox.architecture.blocks import conv, normalise


def feature_pyramid(
    features: Features, width: int, *, separable: bool = False
) -> tuple[KerasTensor, ...]:
    """P3 to P7, `(B, ceil(S / stride), ceil(S / stride), width)` at strides 8, 16, 32, 64 and 128.

    P3 to P5 are the last two skips and the bridge, each with the levels above added (Lin et al.,
    *Feature Pyramid Networks*, CVPR 2017). P6 and P7 are strided convolutions of P5 and P6, as in
    RetinaNet (Lin et al., ICCV 2017), whose P6 is made of the bridge.

    Args:
        features: of an encoder whose last two skips have strides 8 and 16, and its bridge 32.
        width: channels of every level.
        separable: whether 3x3 convolutions are depthwise-separable.
    """
    sources = (*features.skips[-2:], features.bridge)
    laterals = [
        conv(source, width, 1, f"lateral{level}", activation=None)
        for level, source in enumerate(sources, start=3)
    ]
    p5 = laterals[2]
    p4 = _add_enlarged(laterals[1], p5, 4)
    p3 = _add_enlarged(laterals[0], p4, 3)
    levels = [
        _smooth(x, width, f"pyramid{level}", separable)
        for level, x in enumerate((p3, p4, p5), start=3)
    ]
    p6 = _smooth(levels[-1], width, "pyramid6", separable, stride=2)
    active = layers.Activation("relu", name="pyramid6_relu")(p6)
    p7 = _smooth(active, width, "pyramid7", separable, stride=2)
    return (*levels, p6, p7)


def _add_enlarged(lateral: KerasTensor, above: KerasTensor, level: int) -> KerasTensor:
    enlarged = layers.UpSampling2D(2, name=f"enlarged{level}")(above)
    return layers.Add(name=f"top_down{level}")([lateral, enlarged])


def _smooth(x: KerasTensor, width: int, name: str, separable: bool, stride: int = 1) -> KerasTensor:
    """A normalised 3x3 convolution without activation."""
    if not separable:
        return conv(x, width, 3, name, stride=stride, activation=None)
    x = layers.SeparableConv2D(
        width, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    return normalise(x, name, activation=None)
