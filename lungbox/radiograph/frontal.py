"""Whether an image looks like an upright frontal chest radiograph, from its pixels alone.

A convolutional network of 19,000 weights on a thumbnail, computed in numpy: it is independent of
the networks that find opacities, and runs with every engine. `python -m benchmarks.frontal fit`
made its weights; its figures are in docs/frontal_check.md.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from lungbox.common.paths import shipped_checkpoints
from lungbox.radiograph.prepare import equalise, resize_area

# The file of weights in `checkpoints/`.
FILE = "frontal.safetensors"
# Side of the thumbnail, in pixels.
SIDE = 32
# What the network tells apart: an upright radiograph, one that is rotated anticlockwise by 90, 180
# or 270 degrees, the same four inverted, and everything else. Mirrored ones are upright.
CLASSES = (
    "",
    "looks rotated by 90 degrees",
    "looks upside down",
    "looks rotated by 90 degrees",
    "looks inverted",
    "looks inverted and rotated by 90 degrees",
    "looks inverted and upside down",
    "looks inverted and rotated by 90 degrees",
    "does not look like a frontal chest radiograph",
)
UPRIGHT, OTHER = 0, 8
# All flags that `frontal_flag` may return: those of a DICOM header are others.
FLAGS = frozenset(CLASSES[1:])
# Of the probability of not being upright: the share from which its likeliest class is named.
_CERTAIN = 0.8


def frontal_flag(prepared: NDArray[np.uint8]) -> str:
    """Why a prepared image may not be an upright frontal chest radiograph; empty where it looks
    like one.

    Example:
        >>> frontal_flag(np.zeros((256, 256), np.uint8))
        'does not look like a frontal chest radiograph'

    Args:
        prepared: `(S, S)` uint8, see `prepare`; of any size and preparation.

    Returns:
        One of `FLAGS`, or an empty string. An image that is turned or inverted has a flag of its
        own where the network is certain of it.
    """
    network = shipped_network()
    logits = network.logits(thumbnail(prepared)[None])
    if margin(logits)[0] >= network.threshold:
        return ""
    others = np.exp(logits[0, 1:] - logits[0, 1:].max())
    likeliest = 1 + int(others.argmax())
    return CLASSES[likeliest if others.max() >= _CERTAIN * others.sum() else OTHER]


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the network sees of a prepared image: `(SIDE, SIDE)` uint8, equalised."""
    return equalise(resize_area(image, SIDE, SIDE))


def margin(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The log odds `(B,)` of being an upright radiograph, from logits `(B, len(CLASSES))`."""
    return logits[:, UPRIGHT] - np.logaddexp.reduce(logits[:, UPRIGHT + 1 :], axis=1)


def fingerprint() -> str:
    """The SHA-256 of the network's weights, with which flags may change."""
    return hashlib.sha256((shipped_checkpoints() / FILE).read_bytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class FrontalNetwork:
    """The network: 3 x 3 convolutions of stride 2 with ReLU, then one dense layer.

    Attributes:
        convolutions: kernel `(9 * C, F)` and bias `(F,)` of each.
        dense: kernel `(N, len(CLASSES))` and bias.
        threshold: the log odds below which an image is flagged.
    """

    convolutions: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    dense: tuple[NDArray[np.float32], NDArray[np.float32]]
    threshold: float

    def logits(self, thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The logits `(B, len(CLASSES))` of thumbnails `(B, SIDE, SIDE)`."""
        values: NDArray[np.float32] = thumbnails[..., None].astype(np.float32) / 127.5 - 1
        for kernel, bias in self.convolutions:
            values = np.maximum(_windows(values) @ kernel + bias, 0)
        kernel, bias = self.dense
        return values.reshape(len(values), -1) @ kernel + bias


def _windows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The 3 x 3 windows of stride 2 of `(B, H, W, C)`: `(B, H / 2, W / 2, 9 * C)`.

    Row by row, the products are too small for BLAS to start threads, which other images need.
    Padded by one row below and one column on the right, as TensorFlow's `same` pads even sizes.
    """
    count, height, width, channels = values.shape
    padded = np.zeros((count, height + 1, width + 1, channels), np.float32)
    padded[:, :-1, :-1] = values
    image, row, column, channel = padded.strides
    windows = np.lib.stride_tricks.as_strided(
        padded,
        (count, height // 2, width // 2, 3, 3, channels),
        (image, 2 * row, 2 * column, row, column, channel),
        writeable=False,
    )
    return windows.reshape(count, height // 2, width // 2, 9 * channels)


@lru_cache(maxsize=1)
def shipped_network() -> FrontalNetwork:
    """The network that comes with Lungbox."""
    return load_network(shipped_checkpoints() / FILE)


def load_network(path: Path) -> FrontalNetwork:
    """Read the network's weights, which `benchmarks.frontal` wrote."""
    tensors = {name: values.astype(np.float32) for name, values in load_file(path).items()}
    layers = sorted({name.partition("/")[0] for name in tensors} - {"dense", "threshold"})
    kernels = [tensors[f"{layer}/kernel"] for layer in layers]
    return FrontalNetwork(
        convolutions=tuple(
            (kernel.reshape(-1, kernel.shape[-1]), tensors[f"{layer}/bias"])
            for layer, kernel in zip(layers, kernels, strict=True)
        ),
        dense=(tensors["dense/kernel"], tensors["dense/bias"]),
        threshold=float(tensors["threshold"][0]),
    )
