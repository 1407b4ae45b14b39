"""Graph files, from which OpenVINO runs an ensemble without Keras: python -m lungbox.export.graphs.

Each constant of a converted ensemble is matched with what it is computed from: the ensemble is
converted with two sets of random weights, and a rule has to give the constant's values with both.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from lungbox.common.backend import start_keras
from lungbox.common.files import atomic_write
from lungbox.common.paths import shipped_checkpoints
from lungbox.engines.base import EngineConfig
from lungbox.engines.graphs import FOLDER, Constant, Graph, Tensors, compute, save_graph, structure
from lungbox.errors import LungboxError

# OpenVINO computes the same in another order.
_RELATIVE, _ABSOLUTE = 1e-4, 1e-6


class GraphError(LungboxError):
    """An ensemble has a constant that no rule computes from its weights."""


@dataclass(frozen=True)
class _Part:
    """A constant in OpenVINO's `bin`."""

    name: str
    offset: int
    content: bytes
    kind: str

    @property
    def values(self) -> NDArray[np.float32]:
        return np.frombuffer(self.content, np.float32)


def write_graph(config: EngineConfig, folder: Path) -> Path:
    """Write the graph file of an ensemble of `.safetensors` members.

    Args:
        config: the ensemble; its weights' values have no effect.
        folder: for the file, which is named by `engines.graphs.structure`.

    Raises:
        GraphError: a constant is computed from weights by none of the rules.
    """
    path = folder / f"{structure(config)}.safetensors"
    with atomic_write(path, "wb") as file:
        file.write(save_graph(make_graph(config)))
    return path


def make_graph(config: EngineConfig) -> Graph:
    """The graph of an ensemble; see `write_graph`."""
    (xml, parts, members, epsilons), (_, others, other_members, _) = (
        _convert(config, seed) for seed in (1, 2)
    )
    constants, fixed = [], []
    for part, other in zip(parts, others, strict=True):
        if part.content == other.content:
            fixed.append((part.offset, part.content))
            continue
        if part.kind != "f32":
            raise GraphError(f"{config.ensemble}: constant {part.name} is {part.kind}, not f32")
        found = (
            constant
            for constant in _candidates(members, epsilons, part)
            if _matches(constant, members, part) and _matches(constant, other_members, other)
        )
        constant = next(found, None)
        if constant is None:
            raise GraphError(f"{config.ensemble}: no rule computes constant {part.name}")
        constants.append(constant)
    size = max(part.offset + len(part.content) for part in parts)
    shapes = tuple({name: v.shape for name, v in member.items()} for member in members)
    return Graph(xml, size, tuple(constants), shapes, tuple(fixed))


def _convert(
    config: EngineConfig, seed: int
) -> tuple[bytes, list[_Part], list[Tensors], dict[str, float]]:
    """The `xml` and the constants of the ensemble with random weights, these weights, and the
    epsilons of normalisation layers by name."""
    start_keras()
    import keras
    import openvino

    from lungbox.architecture.ensemble import average
    from lungbox.engines.openvino import traced
    from lungbox.weights.networks import build_network

    random = np.random.default_rng(seed)
    networks, tensors, epsilons = [], [], {}
    for member in config.members:
        network = build_network(member.weights)
        for variable in network.weights:
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        tensors.append({v.path: np.array(v, np.float32) for v in network.weights})
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                epsilons[layer.name] = layer.epsilon
        networks.append((network, member.weight))
    whole = average(networks, False, config.gate_rows, config.image_score == "mask")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.xml"
        openvino.save_model(traced(whole, config), path, compress_to_fp16=False)
        xml, data = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    return xml, _parts(xml, data), tensors, epsilons


def _parts(xml: bytes, data: bytes) -> list[_Part]:
    """The constants, in the order of the network; equal ones share an offset and are one part."""
    parts: dict[int, _Part] = {}
    for layer in ElementTree.fromstring(xml).iter("layer"):
        if layer.get("type") != "Const":
            continue
        where = layer.find("data")
        assert where is not None
        offset, size = int(where.get("offset", "")), int(where.get("size", ""))
        if size and offset not in parts:
            content = data[offset : offset + size]
            name, kind = layer.get("name", ""), where.get("element_type", "")
            parts[offset] = _Part(name, offset, content, kind)
    return list(parts.values())


def _candidates(
    members: list[Tensors], epsilons: dict[str, float], part: _Part
) -> Iterator[Constant]:
    """What a constant may be computed from: variables with as many values, in any order of axes."""
    count = len(part.content) // 4
    for index, variables in enumerate(members):
        for path, values in variables.items():
            layer, _, kind = path.partition("/")
            if values.size != count:
                continue
            norms = _norms_behind(layer, epsilons) if kind.endswith("kernel") else []
            for axes in permutations(range(values.ndim)):
                plain = Constant(part.offset, index, "value", path, axes=axes)
                yield plain
                for norm in norms:
                    yield plain._replace(rule="kernel", norm=norm, epsilon=epsilons[norm])
            if kind == "beta":
                yield Constant(part.offset, index, "shift", layer, epsilon=epsilons[layer])


def _norms_behind(layer: str, epsilons: Mapping[str, float]) -> list[str]:
    """The names of the normalisation layers that may follow a layer: of a convolution that several
    levels of a pyramid share, there is one for each level."""
    own = f"{layer.rpartition('_')[0]}_norm"
    return [norm for norm in epsilons if norm == own or norm.startswith(f"{layer}_")]


def _matches(constant: Constant, members: list[Tensors], part: _Part) -> bool:
    values = compute(constant, members[constant.member])
    return values.shape == part.values.shape and np.allclose(
        values, part.values, rtol=_RELATIVE, atol=_ABSOLUTE
    )


def main() -> None:
    """Write the graph files of the shipped ensembles that are named, anew."""
    from lungbox.inference.predictor import open_ensemble

    for name in sys.argv[1:]:
        config = replace(open_ensemble(name, 1).config, precisions=("float32",))
        path = write_graph(config, shipped_checkpoints() / FOLDER)
        Console().print(f"{name}: {path}", markup=False)


if __name__ == "__main__":
    main()
