"""The registry of networks: a network is a function, its registered name is the function's name.

Every network takes `(B, S, S, 1)` prepared gray 0-255. Its outputs are named and float32; which it
has follows from its kind, with C class names:

| kind | outputs | values |
| --- | --- | --- |
| segmentation | `mask` `(B, S / stride, S / stride, 1 + C)` | probabilities, background first |
| detection | `boxes` `(B, K, 4)`, `scores` `(B, K, C)` | `x1, y1, x2, y2` in 0-1; scores 0-1 |
| classification | `classes` `(B, C)` | image-level probabilities |

A network with an image head also has `image` `(B, 1)`, the probability of any opacity; a
classification network always does. Outputs of other names are for training only.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras

from lungbox.constants import CLASS_NAMES, OPACITY
from lungbox.errors import LungboxError, suggest
from lungbox.radiograph.prepare import Preparation


class NetworkError(LungboxError):
    """A network is not registered, or cannot be built as requested; the message says which."""


Kind = Literal["segmentation", "detection", "classification"]
Builder = Callable[..., keras.Model]
Shape = tuple[int | None, ...]
# Options of networks that have an effect in training alone.
TRAINING_OPTIONS = frozenset({"drop_connect", "dropout"})
_OUTPUTS = ("mask", "boxes", "scores", "classes", "image")


@dataclass(frozen=True)
class Network:
    """A network that can be built by name.

    Attributes:
        name: the function's name.
        build: `build(image_size, **options)` returns a `keras.Model` of `(B, S, S, 1)`.
        encoder: the encoder's name.
        image_size: the default input size S, in pixels.
        kind: which outputs it has, see above.
        class_names: of its mask channels after the background, its boxes, or its image-level
            probabilities.
        stride: of the mask; None without a mask.
        image_head: whether it has the output `image`.
        multiple: input sizes are multiples of this.
        reference: whether it is one of the published reference system's, whose preparation and
            operating point are the defaults of its weights.
    """

    name: str
    build: Builder
    encoder: str
    image_size: int
    kind: Kind = "segmentation"
    class_names: tuple[str, ...] = CLASS_NAMES[OPACITY:]
    stride: int | None = None
    image_head: bool = True
    multiple: int = 32
    reference: bool = False

    def __post_init__(self) -> None:
        if (self.kind == "segmentation") != (self.stride is not None):
            raise ValueError(f"{self.name}: a segmentation network has a stride, others have none")
        if self.kind == "classification" and not self.image_head:
            raise ValueError(f"{self.name}: a classification network has an image head")

    @property
    def preparation(self) -> Preparation:
        """The default preprocessing of radiographs."""
        return "nearest" if self.reference else "equalised"

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.build) or "").partition("\n")[0]


_NETWORKS: dict[str, Network] = {}


def network(**entry: Any) -> Callable[[Builder], Builder]:
    """Register the decorated function under its own name; `entry` are the attributes of `Network`.

    Raises:
        ValueError: the name is taken, or the attributes contradict each other.
    """

    def register(build: Builder) -> Builder:
        name = build.__name__
        if name in _NETWORKS:
            raise ValueError(f"two networks are called {name}")
        _NETWORKS[name] = Network(name, build, **entry)
        return build

    return register


def names() -> list[str]:
    """Names of all registered networks, in the order of registration."""
    return list(_NETWORKS)


def describe(name: str) -> Network:
    """The registry entry of a network.

    Raises:
        NetworkError: no network has this name; the message suggests the nearest.

    Example:
        >>> entry = describe("unet_lite0")
        >>> entry.kind, entry.class_names, entry.stride, entry.image_size
        ('segmentation', ('lung opacity',), 4, 256)
    """
    if name not in _NETWORKS:
        raise NetworkError(f"no network is called {name}; {suggest(name, _NETWORKS)}")
    return _NETWORKS[name]


def build(
    name: str,
    image_size: int | None = None,
    class_names: Sequence[str] | None = None,
    **options: object,
) -> keras.Model:
    """Build a network with random weights.

    Args:
        name: a registered network.
        image_size: side of its square input in pixels; its default size if None.
        class_names: its classes; the registered ones if None. Their number is passed to the
            network's function as `classes`.
        options: passed to the network's function.

    Raises:
        NetworkError: no network has this name, the size is not a multiple of the network's, it
            has a fixed number of classes, or the outputs do not fit its kind.

    Example:
        >>> build("unet_lite0", image_size=64).output["mask"].shape
        (None, 16, 16, 2)
    """
    entry = describe(name)
    size = entry.image_size if image_size is None else image_size
    if size % entry.multiple:
        raise NetworkError(
            f"{name} takes images whose side is a multiple of {entry.multiple}, not {size}"
        )
    if class_names is not None and tuple(class_names) != entry.class_names:
        if "classes" not in inspect.signature(entry.build).parameters:
            raise NetworkError(
                f"{name} is for {', '.join(entry.class_names)} only, not {', '.join(class_names)}"
            )
        entry = replace(entry, class_names=tuple(class_names))
        options = {**options, "classes": len(entry.class_names)}
    model = entry.build(size, **options)
    check_outputs(entry, model)
    return model


def check_outputs(entry: Network, model: keras.Model) -> None:
    """Check that a built network has the outputs of its kind.

    Raises:
        NetworkError: an output is missing, unexpected or of another shape.
    """
    outputs = model.output if isinstance(model.output, dict) else {}
    found = {name: tuple(outputs[name].shape[1:]) for name in _OUTPUTS if name in outputs}
    expected = _expected(entry, model.input_shape[1], found.get("boxes", ()))
    if found != expected:
        raise NetworkError(
            f"{entry.name}, registered as a {entry.kind} network for "
            f"{', '.join(entry.class_names)}, must have the outputs {_listed(expected)}, not "
            f"{_listed(found) or 'outputs without names'}"
        )


def _expected(entry: Network, side: int, boxes: Shape) -> dict[str, Shape]:
    """The shape of each output without the batch axis, in the order of `_OUTPUTS`."""
    classes = len(entry.class_names)
    shapes: dict[str, Shape]
    if entry.stride is not None:
        shapes = {"mask": (side // entry.stride, side // entry.stride, 1 + classes)}
    elif entry.kind == "detection":
        anchors = boxes[0] if boxes else None  # any number
        shapes = {"boxes": (anchors, 4), "scores": (anchors, classes)}
    else:
        shapes = {"classes": (classes,)}
    return shapes | ({"image": (1,)} if entry.image_head else {})


def _listed(shapes: dict[str, Shape]) -> str:
    texts = {name: ", ".join(map(str, ("B", *shape))) for name, shape in shapes.items()}
    return ", ".join(f"{name} ({text})" for name, text in texts.items()).replace("None", "K")
