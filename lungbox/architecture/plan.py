"""A network's plan, read off its built graph: some twenty parts instead of hundreds of layers.

The names that `segmentation`'s pieces give their layers say what is what: those of the decoders,
attention and heads are listed in `_PARTS`, and all others are the encoder's.
"""

import re
from dataclasses import dataclass
from typing import Literal

import keras
from keras import KerasTensor, layers

from lungbox.architecture.attention import ChannelStatistics
from lungbox.architecture.cost import layer_macs

Kind = Literal["input", "encoder", "attention", "decoder", "head"]

# What a layer outside the encoder is called, the kind of its part, and the part's name.
_PARTS: tuple[tuple[str, Kind, str], ...] = (
    (r"radiograph$", "input", "radiograph"),
    (r"(bridge|skip\d+)_", "attention", r"\1"),
    (r"(decoder\d+)(a|b|_)", "decoder", r"\1"),
    (r"aspp_(pool|image|spread)", "decoder", "aspp_image"),
    (r"aspp_(join|mix)", "decoder", "aspp_mix"),
    (r"(aspp_rate\d+)_", "decoder", r"\1"),
    (r"low_level_", "decoder", "low_level"),
    (r"mask(_logits)?$", "head", "mask"),
    (r"image(_\w+)?$", "head", "image"),
)


@dataclass(frozen=True)
class Part:
    """Layers that belong together.

    Attributes:
        name: unique in its network. Of an encoder's part, it is the layer it ends with: a tap.
        kind: whose part it is.
        reads: the parts whose output it takes, in the graph's order.
        shape: of its output for one image, `(h, w, channels)` or `(channels,)`.
        stride: the input's side over the output's; None where the output is no map.
        steps: what it does, in words, in order. Of an encoder's part, how many convolutions.
        parameters: how many weights it has.
        macs: multiply-accumulates of one image, see `cost`.
    """

    name: str
    kind: Kind
    reads: tuple[str, ...]
    shape: tuple[int, ...]
    stride: int | None
    steps: tuple[str, ...]
    parameters: int
    macs: int

    @property
    def channels(self) -> int:
        """Of its output."""
        return self.shape[-1]


def plan(model: keras.Model) -> list[Part]:
    """The parts of a built network, each after those it reads."""
    sources = _sources(model)
    placed = _place(model, sources)
    groups: dict[tuple[Kind, str], list[layers.Layer]] = {}
    for layer in model.layers:
        groups.setdefault(placed[layer.name], []).append(layer)
    parts = []
    for (kind, name), members in groups.items():
        inside = {layer.name for layer in members}
        outside = (source for layer in members for source in sources[layer.name])
        reads = dict.fromkeys(placed[source][1] for source in outside if source not in inside)
        parts.append(_part(model, kind, name, tuple(reads), members))
    return _ordered(parts)


def _sources(model: keras.Model) -> dict[str, list[str]]:
    """The names of the layers each layer reads."""
    owner = {id(tensor): layer.name for layer in model.layers for tensor in _listed(layer.output)}
    return {
        layer.name: []
        if isinstance(layer, layers.InputLayer)
        else [owner[id(tensor)] for tensor in _listed(layer.input)]
        for layer in model.layers
    }


def _place(model: keras.Model, sources: dict[str, list[str]]) -> dict[str, tuple[Kind, str]]:
    """The part of each layer; an encoder's are cut behind each layer that is read outside it."""
    placed = {layer.name: place for layer in model.layers if (place := _named(layer.name))}
    taps = {source for name in placed for source in sources[name] if source not in placed}
    for layer in model.layers:
        if layer.name not in taps:
            continue
        waiting = [layer.name]
        while waiting:
            name = waiting.pop()
            if name not in placed:
                placed[name] = ("encoder", layer.name)
                waiting += sources[name]
    return placed


def _named(layer: str) -> tuple[Kind, str] | None:
    for pattern, kind, name in _PARTS:
        if found := re.match(pattern, layer):
            return kind, found.expand(name)
    return None


def _part(
    model: keras.Model, kind: Kind, name: str, reads: tuple[str, ...], members: list[layers.Layer]
) -> Part:
    shape = tuple(members[-1].output.shape[1:])
    return Part(
        name=name,
        kind=kind,
        reads=reads,
        shape=shape,
        stride=model.input_shape[1] // shape[0] if len(shape) == 3 else None,
        steps=_steps(kind, members),
        parameters=sum(layer.count_params() for layer in members),
        macs=sum(layer_macs(layer) for layer in members),
    )


def _ordered(parts: list[Part]) -> list[Part]:
    """Each part after those it reads, otherwise in the order given."""
    done: dict[str, Part] = {}
    while len(done) < len(parts):
        waiting = (part for part in parts if part.name not in done)
        part = next(part for part in waiting if all(name in done for name in part.reads))
        done[part.name] = part
    return list(done.values())


def _steps(kind: Kind, members: list[layers.Layer]) -> tuple[str, ...]:
    if kind == "encoder":
        convolutions = (layers.Conv2D, layers.DepthwiseConv2D)
        count = sum(isinstance(layer, convolutions) for layer in members)
        return (f"{count} convolution{'' if count == 1 else 's'}",) if count else ("scaled",)
    if kind == "attention":
        spatial = any(isinstance(layer, ChannelStatistics) for layer in members)
        return ("spatial attention" if spatial else "squeeze-and-excitation",)
    return tuple(step for layer in members if (step := _step(layer)))


def _step(layer: layers.Layer) -> str:
    """What a layer does, in words; empty for what goes without saying."""
    if isinstance(layer, layers.Conv2DTranspose):
        return f"{_kernel(layer)} transposed"
    if isinstance(layer, layers.DepthwiseConv2D):
        return f"{_kernel(layer)} depthwise"
    if isinstance(layer, layers.Conv2D):
        rate = layer.dilation_rate[0]
        return _kernel(layer) + (f" at rate {rate}" if rate > 1 else "")
    if isinstance(layer, layers.UpSampling2D):
        return f"{layer.size[0]} times larger"
    if isinstance(layer, layers.Activation) and layer.activation.__name__ != "relu":
        return str(layer.activation.__name__)
    if isinstance(layer, layers.AveragePooling2D):
        return "mean" if layer.output.shape[1:3] == (1, 1) else f"means of {_kernel(layer)}"
    if isinstance(layer, layers.Dense):
        return f"dense, {layer.activation.__name__}"
    words = {
        layers.Concatenate: "join",
        layers.GlobalAveragePooling2D: "mean",
        layers.GlobalMaxPooling2D: "maximum",
    }
    return next((word for known, word in words.items() if isinstance(layer, known)), "")


def _kernel(layer: layers.Layer) -> str:
    pooling = isinstance(layer, layers.AveragePooling2D)
    return "x".join(map(str, layer.pool_size if pooling else layer.kernel_size))


def _listed(tensors: KerasTensor | list[KerasTensor]) -> list[KerasTensor]:
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]
