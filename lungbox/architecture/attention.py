"""Attention modules for feature maps."""

from collections.abc import Callable

from keras import KerasTensor, layers, ops

Attention = Callable[[KerasTensor, str], KerasTensor]


def spatial(x: KerasTensor, name: str) -> KerasTensor:
    """Spatial attention: a factor in 0-1 per position, from the mean and maximum over channels.

    `(B, H, W, C)` in and out. The spatial module of CBAM (Woo et al., ECCV 2018).
    """
    pooled = ChannelStatistics(name=f"{name}_statistics")(x)
    gate = layers.Conv2D(1, 7, padding="same", activation="sigmoid", name=f"{name}_gate")(pooled)
    return layers.Multiply(name=f"{name}_weighed")([x, gate])


def squeeze_excitation(x: KerasTensor, name: str, reduction: int = 2) -> KerasTensor:
    """Squeeze-and-excitation: a factor in 0-1 per channel, from the channels' means.

    `(B, H, W, C)` in and out. Hu et al., CVPR 2018, whose reduction is 16; the reference system,
    which calls it spatial attention, has 2.
    """
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(name=f"{name}_means")(x)
    gate = layers.Dense(channels // reduction, activation="relu", name=f"{name}_squeeze")(gate)
    gate = layers.Dense(channels, activation="sigmoid", name=f"{name}_excite")(gate)
    # A separate layer, because published weight files are read in the order of the graph's depth.
    gate = layers.Reshape((1, 1, channels), name=f"{name}_spread")(gate)
    return layers.Multiply(name=f"{name}_weighed")([x, gate])


class ChannelStatistics(layers.Layer):
    """Mean and maximum over channels: `(B, H, W, C)` to `(B, H, W, 2)`."""

    def call(self, inputs: KerasTensor) -> KerasTensor:
        mean = ops.mean(inputs, axis=-1, keepdims=True)
        return ops.concatenate([mean, ops.max(inputs, axis=-1, keepdims=True)], axis=-1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], 2)
