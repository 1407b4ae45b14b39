"""The root of every error a user can mend, and how it is worded; its message is for them."""

import difflib
from collections.abc import Iterable


class LungboxError(Exception):
    """Something outside the code is not as it should be; the message says what, and what to do."""


def hint(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known: the nearest that is, or all there are."""
    names = sorted(known)
    by_lower = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"did you mean {by_lower[near[0]]}?" if near else f"known: {', '.join(names) or 'none'}"
