"""What a network costs to run, counted from its graph: multiply-accumulates, and twice that, FLOPs.

Counted are convolutions (plain, depthwise, separable, transposed) and dense layers. The rest is
left out, as in most published figures: biases, normalisation, activations, pooling, resizing,
attention's products.
"""

from collections.abc import Callable
from math import prod

import keras
from keras import layers

FLOPS_PER_MAC = 2


def macs(model: keras.Model) -> int:
    """Multiply-accumulates of one image at the model's own input size.

    Models inside the model are counted with it. A layer that is applied several times is counted
    once; no network here has one.
    """
    return sum(
        macs(layer) if isinstance(layer, keras.Model) else layer_macs(layer)
        for layer in model.layers
    )


def gflops(model: keras.Model) -> float:
    """Billions (1e9) of floating-point operations of one image: a multiply and an add for each
    multiply-accumulate."""
    return FLOPS_PER_MAC * macs(model) / 1e9


def layer_macs(layer: layers.Layer) -> int:
    """Multiply-accumulates of one layer for one image; 0 for what is not counted.

    Padding counts as if it were pixels, as it does in the published figures.
    """
    return next((count(layer) for kind, count in _COUNTS if isinstance(layer, kind)), 0)


def _convolution(layer: layers.Layer) -> int:
    """Every output position takes the whole kernel once: `(h, w, C / groups, filters)`."""
    return _positions(layer.output, layer.filters) * prod(layer.kernel.shape)


def _depthwise(layer: layers.Layer) -> int:
    """The kernel is `(h, w, C, multiplier)`; a channel meets its own part of it only."""
    channels = prod(layer.kernel.shape[-2:])
    return _positions(layer.output, channels) * prod(layer.kernel.shape)


def _separable(layer: layers.Layer) -> int:
    """A depthwise convolution that takes the stride, then a 1x1."""
    kernels = prod(layer.depthwise_kernel.shape) + prod(layer.pointwise_kernel.shape)
    return _positions(layer.output, layer.filters) * kernels


def _transposed(layer: layers.Layer) -> int:
    """Every input position is spread over the whole kernel once: `(h, w, filters, C)`."""
    return _positions(layer.input, layer.kernel.shape[-1]) * prod(layer.kernel.shape)


def _dense(layer: layers.Layer) -> int:
    """The kernel `(C, units)`, at every position before the channels."""
    return _positions(layer.output, layer.units) * prod(layer.kernel.shape)


def _positions(tensor: keras.KerasTensor, channels: int) -> int:
    """Pixels of a `(B, ..., channels)` or `(B, channels, ...)` tensor."""
    return prod(tensor.shape[1:]) // channels


# A depthwise or transposed convolution is no subclass of the plain one.
_COUNTS: tuple[tuple[type[layers.Layer], Callable[[layers.Layer], int]], ...] = (
    (layers.SeparableConv2D, _separable),
    (layers.DepthwiseConv2D, _depthwise),
    (layers.Conv2DTranspose, _transposed),
    (layers.Conv2D, _convolution),
    (layers.Dense, _dense),
)
