"""Multiply-accumulates and FLOPs of a network, counted from its graph.

Convolutions (plain, depthwise, separable, transposed) and dense layers are counted. Biases,
normalisation, activations, pooling, resizing and attention's products are not, as in most
published figures.
"""

from collections.abc import Callable
from math import prod

import keras
from keras import layers


def macs(model: keras.Model) -> int:
    """Multiply-accumulates for one image of the model's input size, nested models included.

    A layer that is applied several times is counted once; no network here has one.
    """
    return sum(
        macs(layer) if isinstance(layer, keras.Model) else layer_macs(layer)
        for layer in model.layers
    )


def gflops(model: keras.Model) -> float:
    """Floating-point operations for one image in 1e9, two for each multiply-accumulate.

    Example:
        >>> inputs = keras.Input((100, 50, 3))
        >>> gflops(keras.Model(inputs, layers.Conv2D(8, 1)(inputs)))  # 2 * 100 * 50 * 3 * 8 / 1e9
        0.00024
    """
    return 2 * macs(model) / 1e9


def layer_macs(layer: layers.Layer) -> int:
    """Multiply-accumulates of one layer for one image; 0 for layers that are not counted.

    Padding is counted like pixels, as in the published figures.
    """
    return next((count(layer) for kind, count in _COUNTS if isinstance(layer, kind)), 0)


def _convolution(layer: layers.Layer) -> int:
    """The complete kernel `(h, w, C / groups, filters)` for every output position."""
    return _positions(layer.output, layer.filters) * prod(layer.kernel.shape)


def _depthwise(layer: layers.Layer) -> int:
    """The kernel `(h, w, C, multiplier)`, of which each channel uses its own part."""
    channels = prod(layer.kernel.shape[-2:])
    return _positions(layer.output, channels) * prod(layer.kernel.shape)


def _separable(layer: layers.Layer) -> int:
    """A strided depthwise convolution, then a 1x1."""
    kernels = prod(layer.depthwise_kernel.shape) + prod(layer.pointwise_kernel.shape)
    return _positions(layer.output, layer.filters) * kernels


def _transposed(layer: layers.Layer) -> int:
    """The complete kernel `(h, w, filters, C)` for every input position."""
    return _positions(layer.input, layer.kernel.shape[-1]) * prod(layer.kernel.shape)


def _dense(layer: layers.Layer) -> int:
    """The kernel `(C, units)` for every position."""
    return _positions(layer.output, layer.units) * prod(layer.kernel.shape)


def _positions(tensor: keras.KerasTensor, channels: int) -> int:
    """Positions of a `(B, ..., channels)` or `(B, channels, ...)` tensor."""
    return prod(tensor.shape[1:]) // channels


# Depthwise and transposed convolutions are no subclasses of the plain one.
_COUNTS: tuple[tuple[type[layers.Layer], Callable[[layers.Layer], int]], ...] = (
    (layers.SeparableConv2D, _separable),
    (layers.DepthwiseConv2D, _depthwise),
    (layers.Conv2DTranspose, _transposed),
    (layers.Conv2D, _convolution),
    (layers.Dense, _dense),
)
