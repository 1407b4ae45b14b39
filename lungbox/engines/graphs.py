"""OpenVINO networks from weight files, without Keras or TensorFlow.

A graph file holds a converted ensemble without its weights: OpenVINO's `xml`, the constants that do
not depend on weights, and for every other constant the rule that computes it from the variables of
a member's weight file. One file serves all weights of the same networks. `export.graphs` writes
them; `checkpoints/graphs/` has those of the shipped ensembles.
"""

import hashlib
import json
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import openvino
from numpy.typing import NDArray

from lungbox.common.paths import shipped_checkpoints
from lungbox.engines.base import EngineConfig
from lungbox.weights.formats.safetensors import WeightsError, check_finite, read_tensors

FOLDER = "graphs"
# `value`: a variable; `kernel`: a kernel times the scale of the batch normalisation behind it;
# `shift`: what that normalisation adds.
Rule = Literal["value", "kernel", "shift"]
Tensors = dict[str, NDArray[np.float32]]


class GraphFileError(ValueError):
    """A graph file is damaged, or of other networks than the weights."""


class Constant(NamedTuple):
    """A constant of the graph that is computed from weights.

    Attributes:
        offset: of its first byte in OpenVINO's `bin`.
        member: index of the member whose weights it is computed from.
        rule: see `Rule`.
        variable: path of the variable; of a `shift`, the normalisation layer's name.
        norm: name of the normalisation layer of a `kernel`; else empty.
        axes: the variable's axes in the constant's order.
        epsilon: of the normalisation.
    """

    offset: int
    member: int
    rule: Rule
    variable: str
    norm: str = ""
    axes: tuple[int, ...] = ()
    epsilon: float = 0.0


@dataclass(frozen=True)
class Graph:
    """A converted ensemble without its weights.

    Attributes:
        xml: OpenVINO's description of the network.
        size: bytes of its `bin`.
        constants: those that are computed from weights.
        shapes: of each variable of each member, by path.
        fixed: offset and bytes of each of the others.
    """

    xml: bytes
    size: int
    constants: tuple[Constant, ...]
    shapes: tuple[dict[str, tuple[int, ...]], ...]
    fixed: tuple[tuple[int, bytes], ...]

    def fill(self, members: list[Tensors]) -> openvino.Model:
        """The network with the members' weights, by variable path.

        Raises:
            GraphFileError: the variables are those of other networks.
            RuntimeError: OpenVINO cannot read it.
        """
        found = tuple({name: v.shape for name, v in member.items()} for member in members)
        if found != self.shapes:
            raise GraphFileError("the weights are of other networks")
        data = np.zeros(self.size, np.uint8)
        for offset, content in self.fixed:
            data[offset : offset + len(content)] = np.frombuffer(content, np.uint8)
        for constant in self.constants:
            values = compute(constant, members[constant.member])
            data[constant.offset : constant.offset + values.nbytes] = values.view(np.uint8)
        return openvino.Core().read_model(self.xml, openvino.Tensor(data))


def compute(constant: Constant, variables: Tensors) -> NDArray[np.float32]:
    """The values of a constant, flat, in the order of its axes."""
    if constant.rule == "shift":
        scale = _scale(constant.variable, variables, constant.epsilon)
        mean = variables[f"{constant.variable}/moving_mean"]
        return np.ascontiguousarray(variables[f"{constant.variable}/beta"] - mean * scale)
    values = variables[constant.variable]
    if constant.rule == "kernel":
        scale = _scale(constant.norm, variables, constant.epsilon)
        depthwise = constant.variable.partition("/")[0].endswith("_depthwise")
        values = values * (scale[:, None] if depthwise else scale)
    return np.ascontiguousarray(values.transpose(constant.axes)).reshape(-1)


def _scale(norm: str, variables: Tensors, epsilon: float) -> NDArray[np.float32]:
    variance = variables[f"{norm}/moving_variance"]
    return variables[f"{norm}/gamma"] / np.sqrt(variance + np.float32(epsilon))


def structure(config: EngineConfig) -> str:
    """The key of a graph: everything that affects it but the weights' values.

    Code of the networks counts: a graph of other code is not used.
    """
    members: list[list[Any]] = [
        [member.weights.architecture, member.weights.image_size, round(member.weight, 6)]
        for member in config.members
    ]
    for member, part in zip(config.members, members, strict=True):
        if len(member.weights.class_names) != 1:
            part.append(len(member.weights.class_names))
        if member.weights.options:
            part.append(member.weights.options)
    parts = [members, config.gate_rows, config.image_score, _networks_version()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


@cache
def _networks_version() -> str:
    folder = Path(__file__).parent.parent / "architecture"
    sources = sorted(folder.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def graph_file(config: EngineConfig) -> Path | None:
    """The graph file of an ensemble; None where there is none."""
    path = shipped_checkpoints() / FOLDER / f"{structure(config)}.safetensors"
    formats = {member.weights.format for member in config.members}
    usable = formats == {"safetensors"} and not config.keep_members and path.is_file()
    return path if usable else None


def without_keras(config: EngineConfig) -> openvino.Model | None:
    """The network of an ensemble that has a graph file, for any batch size; None without one.

    Raises:
        WeightsError: a weight file cannot be read, or holds NaN or infinity.
    """
    path = graph_file(config)
    if path is None:
        return None
    members = [_variables(member.path) for member in config.members]
    try:
        return load_graph(path).fill(members)
    except (GraphFileError, RuntimeError):
        # Of another version of OpenVINO or of other networks: Keras reports what is wrong, if any.
        return None


def _variables(path: Path) -> Tensors:
    tensors = read_tensors(path)
    for name, values in tensors.items():
        check_finite(path, name, values)
    return {name: values.astype(np.float32) for name, values in tensors.items()}


def save_graph(graph: Graph) -> bytes:
    """The content of a graph file: a safetensors file with the `xml`, the fixed constants and the
    rules, compressed."""
    from safetensors.numpy import save

    fixed = b"".join(content for _, content in graph.fixed)
    parts = {"xml": graph.xml, "fixed": fixed}
    rules: dict[str, Any] = {
        "size": graph.size,
        "constants": graph.constants,
        "shapes": graph.shapes,
        "fixed": [(offset, len(content)) for offset, content in graph.fixed],
    }
    parts["rules"] = json.dumps(rules).encode()
    return save(
        {name: np.frombuffer(zlib.compress(part, 9), np.uint8) for name, part in parts.items()}
    )


def load_graph(path: Path) -> Graph:
    """Read a file that `save_graph` made.

    Raises:
        GraphFileError: it is no such file, or damaged.
    """
    try:
        tensors = read_tensors(path)
        xml, fixed, text = (
            zlib.decompress(tensors[name].tobytes()) for name in ("xml", "fixed", "rules")
        )
        rules = json.loads(text)
        parts, start = [], 0
        for offset, length in rules["fixed"]:
            parts.append((offset, fixed[start : start + length]))
            start += length
        constants = tuple(
            Constant(offset, member, rule, variable, norm, tuple(axes), epsilon)
            for offset, member, rule, variable, norm, axes, epsilon in rules["constants"]
        )
        shapes = tuple(
            {name: tuple(shape) for name, shape in member.items()} for member in rules["shapes"]
        )
        return Graph(xml, rules["size"], constants, shapes, tuple(parts))
    except (WeightsError, zlib.error, KeyError, TypeError, ValueError) as error:
        raise GraphFileError(f"{path}: not a graph file, or damaged ({error})") from error
