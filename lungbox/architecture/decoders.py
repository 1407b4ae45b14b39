"""Decoders: from an encoder's features back to a map of the lungs."""

from keras import KerasTensor, layers

from lungbox.architecture.blocks import separable
from lungbox.architecture.encoders import Features


def light_unet(features: Features, widths: tuple[int, ...] = (128, 96, 64)) -> KerasTensor:
    """A U-Net decoder of depthwise-separable convolutions.

    At each step the map is doubled in size, joined with the encoder's map of that size and mixed
    twice. It stops where `widths` ends; with the deepest skip at stride 16, three widths end at
    stride 4, where a chest radiograph's boxes lose nothing (a perfect mask of 64 x 64 scores
    0.9965 in the RSNA metric).

    Returns:
        `(B, H / k, W / k, widths[-1])`, k the stride of the last skip used.
    """
    x = features.bridge
    for step, (width, skip) in enumerate(
        zip(widths, reversed(features.skips), strict=False), start=1
    ):
        name = f"decoder{step}"
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_up")(x)
        x = layers.Concatenate(name=f"{name}_join")([x, skip])
        x = separable(x, width, f"{name}a")
        x = separable(x, width, f"{name}b")
    return x
