"""Views of test-time augmentation: how a radiograph is changed before it is predicted again."""

from dataclasses import dataclass

# A zoom beyond these shows nothing of use.
_ZOOMS = (0.5, 2.0)


@dataclass(frozen=True)
class View:
    """A view of a prepared radiograph.

    Attributes:
        flip: whether it is mirrored from left to right.
        invert: whether its gray levels are inverted.
        zoom: its magnification about the centre: above 1 the margin is cut off, below 1 it is
            padded with the pixels at the edge.
    """

    flip: bool = False
    invert: bool = False
    zoom: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "View":
        """A view as it is written in a manifest: `flip`, `invert`, `zoom X`, or several of these
        with `+` between them.

        Raises:
            ValueError: it is none.

        >>> View.parse("flip + zoom 1.1")
        View(flip=True, invert=False, zoom=1.1)
        """
        changes: dict[str, bool | float] = {}
        for part in text.split("+"):
            name, *values = part.split() or [""]
            if name in changes or (name in ("flip", "invert")) == bool(values):
                raise _not_a_view(text)
            if name in ("flip", "invert"):
                changes[name] = True
                continue
            if name != "zoom" or len(values) != 1:
                raise _not_a_view(text)
            try:
                changes[name] = float(values[0])
            except ValueError:
                raise _not_a_view(text) from None
            if not _ZOOMS[0] <= changes[name] <= _ZOOMS[1]:
                raise _not_a_view(text)
        return cls(**changes)  # type: ignore[arg-type]


def _not_a_view(text: str) -> ValueError:
    return ValueError(
        f"views: {text!r} is no view; give flip, invert, or zoom with a number from "
        f"{_ZOOMS[0]:g} to {_ZOOMS[1]:g} (zoom 1.1), or several with + between them"
    )


def all_views(flip: bool, views: tuple[str, ...]) -> tuple[View, ...]:
    """The views that are averaged: the radiograph as it is, mirrored with `flip`, and the others.

    >>> len(all_views(True, ("flip", "invert")))
    3
    """
    mirrored = (View(flip=True),) if flip else ()
    return tuple(dict.fromkeys((View(), *mirrored, *map(View.parse, views))))
