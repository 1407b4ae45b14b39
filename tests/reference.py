"""The published reference implementation's own results, in `data/reference`.

`<network>.npz` holds an input and its output; `<network>.json` the weight tensors in the order its
`.h5` files hold them, each set by the rule below, so that the weights themselves need not be kept.
`ensemble_maps.npz` holds sixteen sets of four drawn masks, `ensemble_boxes.json` the prediction
strings it makes of them.
"""

import json
from pathlib import Path

import h5py
import numpy as np

FOLDER = Path(__file__).parent / "data/reference"
NETWORKS = (
    "unet_resnet152_reference",
    "unet_densenet121_reference",
    "unet_vgg19_attention_reference",
    "aspp_resnet152_reference",
)


def tensor(index: int, kind: str, shape: list[int]) -> np.ndarray:
    """The `index`-th weight tensor of a network."""
    noise = np.random.default_rng(1000 + index).standard_normal(shape)
    if kind == "gamma":
        return 1 + 0.05 * noise
    if kind in ("beta", "moving_mean"):
        return 0.05 * noise
    if kind == "moving_variance":
        return 1 + 0.05 * np.abs(noise)
    if kind == "bias":
        return 0.02 * noise
    share = 1 if len(shape) == 4 and shape[0] == 1 else 2
    return noise * np.sqrt(share / np.prod(shape[:-1]))


def write_h5(name: str, path: Path, first: int = 0, chunk: int | None = None) -> Path:
    """Write a network's weights as Keras 2 does.

    Args:
        name: of the network.
        path: the `.h5` file.
        first: what Keras' automatic numbers are moved by, as they are in a session that built
            other networks before.
        chunk: names in one attribute, where the list is cut, as Keras does with long ones.
    """
    records = json.loads((FOLDER / f"{name}.json").read_text())
    layers: dict[str, list[tuple[int, str, list[int]]]] = {"input_1": []}
    for index, (_, layer, kind, shape) in enumerate(records):
        layers.setdefault(_renumbered(layer, first), []).append((index, kind, shape))
    with h5py.File(path, "w") as file:
        _write_names(file.attrs, "layer_names", list(layers), chunk)
        for layer, weights in layers.items():
            group = file.require_group(layer)
            names = [f"{layer}/{kind}:0" for _, kind, _ in weights]
            _write_names(group.attrs, "weight_names", names, None)
            for full, (index, kind, shape) in zip(names, weights, strict=True):
                group.create_dataset(full, data=tensor(index, kind, shape).astype(np.float32))
    return path


def _renumbered(layer: str, first: int) -> str:
    """`conv2d` is the first of its kind and has no number; `conv2d_1` the second."""
    for stem in ("conv2d_transpose", "conv2d", "batch_normalization", "dense"):
        rest = layer.removeprefix(stem)
        if rest != layer and (rest == "" or rest[1:].isdigit()):
            number = int(rest[1:] or 0) + first
            return f"{stem}_{number}" if number else stem
    return layer


def _write_names(attributes, key: str, names: list[str], chunk: int | None) -> None:
    encoded = [name.encode() for name in names]
    if chunk is None:
        attributes[key] = encoded
        return
    for number, start in enumerate(range(0, len(encoded), chunk)):
        attributes[f"{key}{number}"] = encoded[start : start + chunk]
