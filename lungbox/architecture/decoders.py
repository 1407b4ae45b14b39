"""Decoders: from an encoder's features to one feature map for the mask."""

from keras import KerasTensor, layers

from lungbox.architecture.attention import Attention
from lungbox.architecture.backbones.efficientnet_lite import Features
from lungbox.architecture.blocks import conv, normalise, separable


def light_unet(features: Features, widths: tuple[int, ...] = (128, 96, 64)) -> KerasTensor:
    """A U-Net decoder of depthwise-separable convolutions.

    Each step upsamples by two, concatenates the skip of that size and applies two convolutions.
    There is a step for each width; with the deepest skip at stride 16, three steps end at stride 4,
    which is enough for boxes (a perfect mask of 64 x 64 scores 0.9965 in the RSNA metric).

    Returns:
        `(B, H / k, W / k, widths[-1])`, k the stride of the last skip used.
    """
    x = features.bridge
    skips = reversed(features.skips)
    for step, (width, skip) in enumerate(zip(widths, skips, strict=False), start=1):
        name = f"decoder{step}"
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_up")(x)
        x = layers.Concatenate(name=f"{name}_join")([x, skip])
        x = separable(x, width, f"{name}a")
        x = separable(x, width, f"{name}b")
    return x


def unet(
    features: Features,
    widths: tuple[int, ...] = (512, 256, 128, 64),
    attention: Attention | None = None,
) -> KerasTensor:
    """The U-Net decoder (Ronneberger et al., 2015) of the reference system.

    Each step upsamples by a transposed convolution, concatenates the skip of that size and applies
    two 3x3 convolutions.

    Args:
        features: one skip for each width, the first at full resolution.
        widths: channels of each step, deep to shallow.
        attention: applied to the bridge and to every skip; none if None.

    Returns:
        `(B, H, W, widths[-1])`.
    """
    x = features.bridge if attention is None else attention(features.bridge, "bridge")
    skips = reversed(features.skips)
    for step, (width, skip) in enumerate(zip(widths, skips, strict=True), start=1):
        name = f"decoder{step}"
        x = layers.Conv2DTranspose(width, 2, strides=2, padding="same", name=f"{name}_up")(x)
        if attention is not None:
            skip = attention(skip, f"skip{step}")
        x = layers.Concatenate(name=f"{name}_join")([x, skip])
        x = conv(x, width, 3, f"{name}a", bias=True)
        x = conv(x, width, 3, f"{name}b", bias=True)
    return x


def aspp(
    features: Features, filters: int = 256, rates: tuple[int, ...] = (6, 12, 18)
) -> KerasTensor:
    """Atrous spatial pyramid pooling and the decoder of DeepLabv3+ (Chen et al., ECCV 2018).

    Args:
        features: the bridge, and one skip at stride 4 (the low-level features).
        filters: channels of every branch.
        rates: dilation rates of the 3x3 branches.

    Returns:
        `(B, H, W, filters)`.
    """
    bridge, (low_level,) = features.bridge, features.skips
    side = bridge.shape[1]
    pooled = layers.AveragePooling2D(side, name="aspp_pool")(bridge)
    pooled = conv(pooled, filters, 1, "aspp_image")
    pooled = layers.UpSampling2D(side, interpolation="bilinear", name="aspp_spread")(pooled)
    branches = [pooled, conv(bridge, filters, 1, "aspp_rate1")]
    branches += [conv(bridge, filters, 3, f"aspp_rate{rate}", rate=rate) for rate in rates]
    x = layers.Concatenate(name="aspp_join")(branches)
    x = conv(x, filters, 1, "aspp_mix")
    x = _upsample(x, 4, "decoder1_up")
    skip = conv(low_level, 48, 1, "low_level")
    x = layers.Concatenate(name="decoder1_join")([x, skip])
    for name in ("decoder1a", "decoder1b"):
        # ReLU, normalisation, ReLU, as in the reference system.
        x = layers.Conv2D(
            filters, 3, padding="same", use_bias=False, activation="relu", name=f"{name}_conv"
        )(x)
        x = normalise(x, name)
    return _upsample(x, 4, "decoder2_up")


def _upsample(x: KerasTensor, factor: int, name: str) -> KerasTensor:
    return layers.UpSampling2D(factor, interpolation="bilinear", name=name)(x)
