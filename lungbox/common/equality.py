"""Equality and hash of records that hold arrays."""

from dataclasses import fields
from typing import Any

import numpy as np


class ValueEquality:
    """Makes a frozen dataclass comparable and hashable where some of its fields are arrays.

    For `@dataclass(frozen=True, eq=False)`: the methods that `dataclass` generates fail on arrays.

    Two records are equal where they are of one class and all fields are equal, arrays in shape and
    in every value (whatever their dtype); equal records have the same hash.
    """

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(map(_equal, _values(self), _values(other)))

    def __hash__(self) -> int:
        return hash(tuple(map(_hashable, _values(self))))


def _values(record: Any) -> list[Any]:
    return [getattr(record, field.name) for field in fields(record) if field.compare]


def _equal(one: Any, other: Any) -> bool:
    arrays = [isinstance(value, np.ndarray) for value in (one, other)]
    return np.array_equal(one, other) if all(arrays) else not any(arrays) and bool(one == other)


def _hashable(value: Any) -> Any:
    # Numbers rather than bytes, for equal numbers of two dtypes, and -0 and 0, differ in these.
    return (value.shape, tuple(value.ravel().tolist())) if isinstance(value, np.ndarray) else value
