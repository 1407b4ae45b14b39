"""Post-training quantization of a float32 model to INT8, with NNCF.

Ranges of activations come from calibration images. Operations that lose accuracy stay in float32:
first none, then more and more types, until masks and boxes agree with float32's. As these are
compared with float32 and not with labels, training images can be used. (NNCF's own accuracy control
ranks operations again after each one: over ten minutes on two cores, where this takes two.)
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungbox.constants import OPACITY
from lungbox.engines.openvino import compile_model, openvino

# Of opacity maps with those of float32, averaged over images; see `agreement`.
MIN_AGREEMENT = 0.96
# Share of the image added to both sums of `agreement`, so that small differences between nearly
# empty maps do not count.
_SMOOTH = 0.01

# Operations that stay in float32, step by step. Inputs of a concatenation share one range, which
# fits one of them only; a depthwise convolution has few products to average its errors over; the
# first convolution reads the image itself, and sums carry errors from one block to the next.
STEPS: tuple[tuple[str, ...], ...] = (
    (),
    ("Concat",),
    ("Concat", "GroupConvolution", "first Convolution"),
    ("Concat", "GroupConvolution", "first Convolution", "Add", "MatMul"),
)


@dataclass(frozen=True)
class QuantizedModel:
    """A quantized model.

    Attributes:
        network: the same inputs and outputs, for any batch size.
        agreement: with float32, 1 for equal maps.
        in_float32: types of operations that are not quantized.
    """

    network: openvino.Model
    agreement: float
    in_float32: tuple[str, ...]


def quantize(
    network: openvino.Model,
    images: NDArray[np.uint8],
    steps: Sequence[tuple[str, ...]] = STEPS,
) -> QuantizedModel:
    """Quantize an ensemble's model of `(B, S, S, 1)` uint8, B any number.

    Args:
        network: the float32 model, which is not changed.
        images: `(N, S, S)` uint8, prepared, for calibration; every third is compared with float32.
        steps: operations that stay in float32, tried one after the other.

    Returns:
        The first step whose maps agree with float32's, or the one that agrees best.
    """
    import nncf

    nncf.set_log_level(logging.ERROR)
    alone = network.clone()
    alone.reshape([1, *images.shape[1:], 1])
    compared = images[::3]
    expected = _maps(alone, compared)
    best: QuantizedModel | None = None
    for kinds in steps:
        with redirect_stdout(StringIO()):  # its progress bars
            quantized = nncf.quantize(
                alone,
                nncf.Dataset(list(images), _as_input),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(images),
                ignored_scope=_ignored(nncf.IgnoredScope, alone, kinds),
            )
        pairs = zip(_maps(quantized, compared), expected, strict=True)
        agrees = float(np.mean([agreement(ours, theirs) for ours, theirs in pairs]))
        quantized.reshape([-1, *images.shape[1:], 1])
        if best is None or agrees > best.agreement:
            best = QuantizedModel(quantized, agrees, kinds)
        if agrees >= MIN_AGREEMENT:
            break
    assert best is not None
    return best


def _ignored(scope: Callable[..., Any], network: openvino.Model, kinds: tuple[str, ...]) -> Any:
    """NNCF's description of these kinds of operations."""
    operations = network.get_ordered_ops()
    present = {operation.get_type_name() for operation in operations}
    types = [kind for kind in kinds if kind in present]
    convolutions = [one for one in operations if one.get_type_name() == "Convolution"]
    first = "first Convolution" in kinds and convolutions
    return scope(types=types, names=[convolutions[0].get_friendly_name()] if first else [])


def agreement(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Soft IoU of two opacity maps of one shape, 0-1: the sum of their minimum over that of their
    maximum, 1 for equal maps."""
    smooth = _SMOOTH * ours.size
    least, greatest = np.minimum(ours, theirs).sum(), np.maximum(ours, theirs).sum()
    return float((least + smooth) / (greatest + smooth))


def _maps(network: openvino.Model, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """The opacity maps of each image, flat: of the mask, and of each detection network's boxes."""
    names = {name for output in network.outputs for name in output.get_names()}
    detectors = sorted(name.removeprefix("boxes_") for name in names if name.startswith("boxes_"))
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    request = compile_model(network, hints).create_infer_request()
    found = []
    for image in images:
        request.infer({0: _as_input(image)})
        maps = []
        if "mask" in names:
            maps.append(request.get_tensor("mask").data[0, ..., OPACITY].ravel())
        for number in detectors:
            outputs = (request.get_tensor(f"{kind}_{number}") for kind in ("boxes", "scores"))
            maps.append(box_map(*(output.data[0] for output in outputs)).ravel())
        found.append(np.concatenate(maps))
    return found


def box_map(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], side: int = 64
) -> NDArray[np.float32]:
    """`(side, side)`: at each pixel the highest score of the boxes that cover it, or 0.

    Args:
        boxes: `(K, 4)` `x1, y1, x2, y2` in 0-1.
        scores: `(K, C)`; the highest of a box counts.
        side: of the square map, in pixels.

    >>> box_map(np.float32([[0, 0, 0.5, 1], [0, 0, 1, 0.5]]), np.float32([[0.2], [0.9]]), 2)
    array([[0.9, 0.9],
           [0.2, 0. ]], dtype=float32)
    """
    found = np.zeros((side, side), np.float32)
    corners = np.rint(boxes * side).astype(int)
    for (x1, y1, x2, y2), score in zip(corners.tolist(), scores.max(axis=1), strict=True):
        covered = found[y1:y2, x1:x2]
        np.maximum(covered, score, out=covered)
    return found


def _as_input(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[None, ..., None]
