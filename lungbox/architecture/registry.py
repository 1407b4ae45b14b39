"""The registry of networks: a network is a function, its registered name is the function's name."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import keras

from lungbox.errors import LungboxError, hint
from lungbox.radiograph.prepare import Preparation


class NetworkError(LungboxError):
    """There is no such network, or not in this form."""


Builder = Callable[..., keras.Model]


@dataclass(frozen=True)
class Network:
    """A network that can be built by name.

    Attributes:
        name: the function's name.
        build: `build(image_size, **options)` to a `keras.Model` of `(B, S, S, 1)` gray 0-255.
        encoder: the encoder's name.
        stride: the mask's stride k: the mask is `(B, S / k, S / k, 2)`.
        image_size: the size it is meant for, in pixels; any multiple of `multiple` works.
        image_head: whether it gives `image`, the probability that there is any opacity.
        reference: whether it is one of the published reference system's, whose preparation and
            box rule go with it.
    """

    name: str
    build: Builder
    encoder: str
    stride: int
    image_size: int
    image_head: bool = True
    reference: bool = False
    multiple: int = 32

    @property
    def preparation(self) -> Preparation:
        """How a radiograph is prepared for it, where nothing else is said."""
        return "nearest" if self.reference else "equalised"

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.build) or "").partition("\n")[0]


_NETWORKS: dict[str, Network] = {}


def network(
    *,
    encoder: str,
    stride: int,
    image_size: int,
    image_head: bool = True,
    reference: bool = False,
) -> Callable[[Builder], Builder]:
    """Register the function it decorates under its own name."""

    def register(build: Builder) -> Builder:
        name = build.__name__
        if name in _NETWORKS:
            raise ValueError(f"two networks are called {name}")
        _NETWORKS[name] = Network(name, build, encoder, stride, image_size, image_head, reference)
        return build

    return register


def names() -> list[str]:
    """All registered networks, in the order they were registered."""
    return list(_NETWORKS)


def describe(name: str) -> Network:
    """The network called `name`.

    Raises:
        NetworkError: there is none; the message names the nearest.
    """
    if name not in _NETWORKS:
        raise NetworkError(f"no network is called {name}; {hint(name, _NETWORKS)}")
    return _NETWORKS[name]


def build(name: str, image_size: int | None = None, **options: object) -> keras.Model:
    """Build the network called `name` with random weights.

    Args:
        name: a registered network.
        image_size: side of its square input; its own by default.
        options: passed to the network's function.

    Raises:
        NetworkError: no network has that name, or the size is not a multiple of 32.
    """
    known = describe(name)
    size = known.image_size if image_size is None else image_size
    if size % known.multiple:
        raise NetworkError(
            f"{name} takes images whose side is a multiple of {known.multiple}, not {size}"
        )
    return known.build(size, **options)
