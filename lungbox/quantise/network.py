"""An INT8 model from one of float32: NNCF's quantisation after training.

Ranges of activations come from calibration images. What integers serve badly stays in float32:
first nothing, then more and more kinds of operations, until the network says what it said. It is
held against float32 and not against labels, so images that were trained on will do. (NNCF's own
accuracy control ranks operations anew after each that it gives back: over ten minutes on two cores
where this takes two.)
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
from lungbox.engines.openvino import openvino

# Of opacity maps with those of float32, the mean over the images; see `agreement`.
LEAST_AGREEMENT = 0.96
# Where neither finds anything, what they differ by is compared with this share of the image.
_SMOOTH = 0.01

# What stays in float32, step by step. Parts of a concatenation share one range, which is wrong for
# all but one; a depthwise convolution has few products to average its errors over; the first
# convolution sees the image itself, and sums carry errors from one block to the next.
STEPS: tuple[tuple[str, ...], ...] = (
    (),
    ("Concat",),
    ("Concat", "GroupConvolution", "first Convolution"),
    ("Concat", "GroupConvolution", "first Convolution", "Add", "MatMul"),
)


@dataclass(frozen=True)
class Made:
    """A quantised network.

    Attributes:
        network: the same inputs and outputs, any number of images.
        agreement: with float32, 1 for equal maps.
        in_float32: the kinds of operations that are not quantised.
    """

    network: openvino.Model
    agreement: float
    in_float32: tuple[str, ...]


def quantise(
    network: openvino.Model,
    images: NDArray[np.uint8],
    steps: Sequence[tuple[str, ...]] = STEPS,
) -> Made:
    """Quantise a network of `(B, S, S, 1)` uint8, B any number, to `mask` and `image`.

    Args:
        network: stays as it is.
        images: `(N, S, S)` uint8, prepared, for calibration; every third is held against float32.
        steps: what stays in float32, tried one after the other.

    Returns:
        The first step whose maps agree with float32's, or the one that agrees best.
    """
    import nncf

    nncf.set_log_level(logging.ERROR)
    alone = network.clone()
    alone.reshape([1, *images.shape[1:], 1])
    held = images[::3]
    expected = _maps(alone, held)
    best: Made | None = None
    for kinds in steps:
        with redirect_stdout(StringIO()):  # bars of its own, in a terminal or not
            made = nncf.quantize(
                alone,
                nncf.Dataset(list(images), _as_input),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(images),
                ignored_scope=_ignored(nncf.IgnoredScope, alone, kinds),
            )
        pairs = zip(_maps(made, held), expected, strict=True)
        agrees = float(np.mean([agreement(ours, theirs) for ours, theirs in pairs]))
        made.reshape([-1, *images.shape[1:], 1])
        if best is None or agrees > best.agreement:
            best = Made(made, agrees, kinds)
        if agrees >= LEAST_AGREEMENT:
            break
    assert best is not None
    return best


def _ignored(scope: Callable[..., Any], network: openvino.Model, kinds: tuple[str, ...]) -> Any:
    """NNCF's description of these kinds of operations."""
    operations = network.get_ordered_ops()
    there = {operation.get_type_name() for operation in operations}
    types = [kind for kind in kinds if kind in there]
    convolutions = [one for one in operations if one.get_type_name() == "Convolution"]
    first = "first Convolution" in kinds and convolutions
    return scope(types=types, names=[convolutions[0].get_friendly_name()] if first else [])


def agreement(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """How far two opacity maps `(h, w)`, 0-1, are the same: the sum of their least over that of
    their greatest values, 1 for equal ones."""
    smooth = _SMOOTH * ours.size
    least, greatest = np.minimum(ours, theirs).sum(), np.maximum(ours, theirs).sum()
    return float((least + smooth) / (greatest + smooth))


def _maps(network: openvino.Model, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """The opacity map `(h, w)` of each image."""
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    ask = openvino.Core().compile_model(network, "CPU", hints).create_infer_request()
    found = []
    for image in images:
        ask.infer({0: _as_input(image)})
        found.append(ask.get_tensor("mask").data[0, ..., OPACITY].copy())
    return found


def _as_input(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[None, ..., None]
