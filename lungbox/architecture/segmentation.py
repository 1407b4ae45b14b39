"""The named networks: encoder x decoder x head.

Every one takes `(B, S, S, 1)` prepared gray 0-255 and gives `{"mask": (B, S/k, S/k, 2),
"image": (B, 1)}`, probabilities both.
"""

import keras

from lungbox.architecture import decoders, encoders, heads
from lungbox.architecture.registry import network


@network(encoder="EfficientNet-Lite0", stride=4, image_size=256)
def unet_lite0(
    image_size: int = 256, drop_connect: float = 0.1, dropout: float = 0.2
) -> keras.Model:
    """A light U-Net on EfficientNet-Lite0 for CPUs: the shipped default.

    Args:
        image_size: side of the input in pixels, a multiple of 32.
        drop_connect: highest probability that a residual branch is dropped in training.
        dropout: share of the image head's features dropped in training.
    """
    # 1. Input
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    # 2. Encoder, decoder, heads
    features = encoders.efficientnet_lite0(inputs, drop_connect)
    decoded = decoders.light_unet(features)
    mask = heads.softmax_mask(decoded)
    image = heads.image_score(features.pooled, mask, dropout)
    # 3. Model
    return keras.Model(inputs, {"mask": mask, "image": image}, name="unet_lite0")
