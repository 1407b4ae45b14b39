"""Blocks of layers that encoders, decoders and heads are built from.

Their caller names them: a layer's name is the key of its weights in a checkpoint.
"""

from keras import KerasTensor, layers


def normalise(x: KerasTensor, name: str, activation: str | None = "relu") -> KerasTensor:
    """Batch normalisation, then the activation. `(B, H, W, C)` in and out."""
    x = layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_norm")(x)
    if activation is None:
        return x
    return layers.Activation(activation, name=f"{name}_{activation}")(x)


def conv(
    x: KerasTensor,
    filters: int,
    kernel: int,
    name: str,
    *,
    stride: int = 1,
    rate: int = 1,
    groups: int = 1,
    bias: bool = False,
    activation: str | None = "relu",
) -> KerasTensor:
    """Convolution, batch normalisation, activation.

    `(B, H, W, C)` to `(B, ceil(H / stride), ceil(W / stride), filters)`. A bias has no effect
    before the normalisation; the reference system's decoders have one.
    """
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        dilation_rate=rate,
        groups=groups,
        padding="same",
        use_bias=bias,
        name=f"{name}_conv",
    )(x)
    return normalise(x, name, activation)


def depthwise(
    x: KerasTensor, kernel: int, name: str, *, stride: int = 1, activation: str | None = "relu"
) -> KerasTensor:
    """Depthwise convolution without bias, batch normalisation, activation.

    `(B, H, W, C)` to `(B, ceil(H / stride), ceil(W / stride), C)`.
    """
    x = layers.DepthwiseConv2D(
        kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    return normalise(x, name, activation)


def separable(x: KerasTensor, filters: int, name: str, *, activation: str = "relu") -> KerasTensor:
    """3x3 depthwise, then 1x1 convolution, each normalised.

    `(B, H, W, C)` to `(B, H, W, filters)`.
    """
    x = depthwise(x, 3, f"{name}_spatial", activation=None)
    return conv(x, filters, 1, f"{name}_mix", activation=activation)
