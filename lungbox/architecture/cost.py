"""Multiply-accumulates and FLOPs of a network, counted from its graph.

Convolutions (plain, depthwise, separable, transposed) and dense layers are counted. Biases,
normalisation, activations, pooling, resizing and attention's products are not, as in most
published figures.
"""

from collections.abc import Callable
from itertools import chain
from math import prod

import keras
from keras import KerasTensor, layers

from lungbox.architecture.detection.relation import ObjectRelation


def macs(model: keras.Model) -> int:
    """Multiply-accumulates for one image of the model's input size, nested models included.

    A layer that is applied several times, as the heads of a detection network are to each level, is
    counted each time.
    """
    total = 0
    # The layer's own nodes are those of all models it is in.
    for node in chain.from_iterable(model._nodes_by_depth.values()):
        layer = node.operation
        if isinstance(layer, keras.Model):
            total += macs(layer)
        elif isinstance(layer, layers.Layer) and not isinstance(layer, layers.InputLayer):
            total += layer_macs(layer, node.input_tensors[0], node.output_tensors[0])
    return total


def gflops(model: keras.Model) -> float:
    """Floating-point operations for one image in 1e9, two for each multiply-accumulate.

    Example:
        >>> inputs = keras.Input((100, 50, 3))
        >>> gflops(keras.Model(inputs, layers.Conv2D(8, 1)(inputs)))  # 2 * 100 * 50 * 3 * 8 / 1e9
        0.00024
    """
    return 2 * macs(model) / 1e9


def layer_macs(layer: layers.Layer, inputs: KerasTensor, outputs: KerasTensor) -> int:
    """Multiply-accumulates of one call of a layer for one image; 0 for layers that are not counted.

    Padding is counted like pixels, as in the published figures.

    Args:
        layer: the layer.
        inputs: its (first) input in that call.
        outputs: its output.
    """
    found = (count for kind, count in _COUNTS if isinstance(layer, kind))
    return next((count(layer, inputs, outputs) for count in found), 0)


def _convolution(layer: layers.Layer, _: KerasTensor, outputs: KerasTensor) -> int:
    """The complete kernel `(h, w, C / groups, filters)` for every output position."""
    return _positions(outputs, layer.filters) * prod(layer.kernel.shape)


def _depthwise(layer: layers.Layer, _: KerasTensor, outputs: KerasTensor) -> int:
    """The kernel `(h, w, C, multiplier)`, of which each channel uses its own part."""
    channels = prod(layer.kernel.shape[-2:])
    return _positions(outputs, channels) * prod(layer.kernel.shape)


def _separable(layer: layers.Layer, _: KerasTensor, outputs: KerasTensor) -> int:
    """A strided depthwise convolution, then a 1x1."""
    kernels = prod(layer.depthwise_kernel.shape) + prod(layer.pointwise_kernel.shape)
    return _positions(outputs, layer.filters) * kernels


def _transposed(layer: layers.Layer, inputs: KerasTensor, _: KerasTensor) -> int:
    """The complete kernel `(h, w, filters, C)` for every input position."""
    return _positions(inputs, layer.kernel.shape[-1]) * prod(layer.kernel.shape)


def _dense(layer: layers.Layer, _: KerasTensor, outputs: KerasTensor) -> int:
    """The kernel `(C, units)` for every position."""
    return _positions(outputs, layer.units) * prod(layer.kernel.shape)


def _positions(tensor: KerasTensor, channels: int) -> int:
    """Positions of a `(B, ..., channels)` or `(B, channels, ...)` tensor."""
    return prod(tensor.shape[1:]) // channels


def _relation(layer: ObjectRelation, inputs: KerasTensor, _: KerasTensor) -> int:
    """Its dense layers, that of the geometry for each pair of boxes; the attention's own products
    are not counted, as those of other layers without weights."""
    boxes = inputs.shape[1]
    each = (layer.queries, layer.keys, layer.values)
    dense = sum(prod(one.kernel.shape) for one in each)
    return boxes * dense + boxes**2 * prod(layer.geometry.kernel.shape)


_Count = Callable[[layers.Layer, KerasTensor, KerasTensor], int]
# Depthwise and transposed convolutions are no subclasses of the plain one.
_COUNTS: tuple[tuple[type[layers.Layer], _Count], ...] = (
    (layers.SeparableConv2D, _separable),
    (layers.DepthwiseConv2D, _depthwise),
    (layers.Conv2DTranspose, _transposed),
    (layers.Conv2D, _convolution),
    (layers.Dense, _dense),
    (ObjectRelation, _relation),
)
