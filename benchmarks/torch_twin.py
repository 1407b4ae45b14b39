"""The same network in PyTorch, layer by layer from Keras' own graph, with the same weights.

For comparing speed like with like. Every layer that Lungbox's networks use is known here; a twin's
output is compared with its original's before anything is timed (`check`).
"""

from typing import Any

import keras
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_ACTIVATIONS = {
    "relu": torch.relu,
    "relu6": lambda x: torch.clamp(x, 0, 6),
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: torch.softmax(x, 1),
    "linear": lambda x: x,
}


class Twin(nn.Module):
    """A functional Keras network as a PyTorch module: `(B, S, S, 1)` in, a dictionary out, masks
    as `(B, 2, h, w)`."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self._steps: list[tuple[int, list[int], int]] = []
        self._input = id(model.inputs[0])
        self._outputs = {name: id(tensor) for name, tensor in model.output.items()}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input:
                    inputs = [id(tensor) for tensor in node.input_tensors]
                    self._steps.append((len(self.layers), inputs, id(node.outputs[0])))
                    self.layers.append(_layer(node.operation))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Run the network on images as Keras takes them."""
        values = {self._input: images.permute(0, 3, 1, 2)}
        for place, inputs, output in self._steps:
            values[output] = self.layers[place](*(values[key] for key in inputs))
        return {name: values[key] for name, key in self._outputs.items()}


def check(model: keras.Model, twin: Twin) -> float:
    """The largest difference between both networks' masks on one random batch."""
    images = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:]))
    theirs = np.asarray(model(images.astype(np.float32), training=False)["mask"])
    with torch.inference_mode():
        ours = twin.eval()(torch.from_numpy(images.astype(np.float32)))["mask"]
    return float(np.abs(theirs - ours.permute(0, 2, 3, 1).numpy()).max())


def _layer(layer: Any) -> nn.Module:
    kind = type(layer).__name__
    if kind not in _LAYERS:
        raise NotImplementedError(f"{kind} ({layer.name}) has no twin")
    return _LAYERS[kind](layer)


class _Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class _Padded(nn.Module):
    """TensorFlow's `same` padding, which puts the odd pixel on the right, and an activation."""

    def __init__(self, module: nn.Module, layer: Any) -> None:
        super().__init__()
        self.module, self.same = module, layer.padding == "same"
        self.kernel, self.stride = layer.kernel_size, layer.strides
        self.dilation = layer.dilation_rate
        self.activation = _ACTIVATIONS[layer.activation.__name__]

    def forward(self, x: Tensor) -> Tensor:
        if self.same:
            pads = []
            for size, kernel, stride, dilation in zip(
                x.shape[:1:-1], self.kernel[::-1], self.stride[::-1], self.dilation[::-1],
                strict=True,
            ):  # fmt: skip
                total = max(
                    (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0
                )
                pads += [total // 2, total - total // 2]
            x = F.pad(x, pads) if any(pads) else x
        return self.activation(self.module(x))


def _conv(layer: Any) -> nn.Module:
    kernel = np.asarray(layer.kernel)
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    inputs, outputs = kernel.shape[2], kernel.shape[3]
    module = nn.Conv2d(
        inputs,
        inputs if depthwise else outputs,
        layer.kernel_size,
        layer.strides,
        dilation=layer.dilation_rate,
        groups=inputs if depthwise else 1,
        bias=layer.use_bias,
    )
    _fill(module.weight, kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)))
    if layer.use_bias:
        _fill(module.bias, layer.bias)
    return _Padded(module, layer)


def _transposed(layer: Any) -> nn.Module:
    kernel = np.asarray(layer.kernel)
    module = nn.ConvTranspose2d(kernel.shape[3], kernel.shape[2], layer.kernel_size, layer.strides)
    _fill(module.weight, kernel.transpose(3, 2, 0, 1))
    _fill(module.bias, layer.bias)
    return module


def _norm(layer: Any) -> nn.Module:
    module = nn.BatchNorm2d(layer.moving_mean.shape[0], layer.epsilon, 1 - layer.momentum)
    for ours, theirs in (
        (module.weight, layer.gamma),
        (module.bias, layer.beta),
        (module.running_mean, layer.moving_mean),
        (module.running_var, layer.moving_variance),
    ):
        if theirs is not None:
            _fill(ours, theirs)
    return module


def _dense(layer: Any) -> nn.Module:
    kernel = np.asarray(layer.kernel)
    module = nn.Linear(*kernel.shape, bias=layer.use_bias)
    _fill(module.weight, kernel.T)
    if layer.use_bias:
        _fill(module.bias, layer.bias)
    return nn.Sequential(module, _Function(_ACTIVATIONS[layer.activation.__name__]))


def _pooled(function: Any, layer: Any) -> nn.Module:
    return _Function(lambda x: function(x, layer.pool_size, layer.strides))


def _enlarged(layer: Any) -> nn.Module:
    mode = {"bilinear": {"mode": "bilinear", "align_corners": False}, "nearest": {}}
    return nn.Upsample(scale_factor=layer.size, **mode[layer.interpolation])


def _normalised(layer: Any) -> nn.Module:
    mean, variance = (
        torch.tensor(np.asarray(values, np.float32).reshape(1, -1, 1, 1))
        for values in (layer.mean, layer.variance)
    )
    return _Function(lambda x: (x - mean) / torch.sqrt(variance))


def _statistics(layer: Any) -> nn.Module:
    del layer
    means = [lambda x: x.mean(1, keepdim=True), lambda x: x.amax(1, keepdim=True)]
    return _Function(lambda x: torch.cat([mean(x) for mean in means], 1))


def _fill(parameter: Any, values: Any) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(values, np.float32)))


_LAYERS: dict[str, Any] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _conv,
    "Conv2DTranspose": _transposed,
    "BatchNormalization": _norm,
    "Dense": _dense,
    "Activation": lambda layer: _Function(_ACTIVATIONS[layer.activation.__name__]),
    "Add": lambda _: _Function(lambda *x: torch.stack(x).sum(0) if len(x) > 2 else x[0] + x[1]),
    "Multiply": lambda _: _Function(lambda a, b: a * b),
    "Concatenate": lambda _: _Function(lambda *x: torch.cat(x, 1)),
    "Dropout": lambda layer: (nn.Dropout2d if layer.noise_shape else nn.Dropout)(layer.rate),
    "Rescaling": lambda layer: _Function(lambda x: x * layer.scale + layer.offset),
    "Normalization": _normalised,
    "ZeroPadding2D": lambda layer: nn.ZeroPad2d([*layer.padding[1], *layer.padding[0]]),
    "MaxPooling2D": lambda layer: _pooled(F.max_pool2d, layer),
    "AveragePooling2D": lambda layer: _pooled(F.avg_pool2d, layer),
    "GlobalAveragePooling2D": lambda _: _Function(lambda x: x.mean((2, 3))),
    "GlobalMaxPooling2D": lambda _: _Function(lambda x: x.amax((2, 3))),
    "UpSampling2D": _enlarged,
    "Reshape": lambda _: _Function(lambda x: x[..., None, None]),
    "ChannelStatistics": _statistics,
}
