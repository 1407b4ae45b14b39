"""The base class of errors that users can fix, and suggestions for their messages."""

import difflib
from collections.abc import Iterable


class LungboxError(Exception):
    """An error that users can fix; the message says what is wrong and what to do."""


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the most similar known one, or all of them.

    >>> suggest("defualt", ["default", "reference"])
    'did you mean default?'
    """
    names = sorted(known)
    by_lower = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"did you mean {by_lower[near[0]]}?" if near else f"known: {', '.join(names) or 'none'}"
