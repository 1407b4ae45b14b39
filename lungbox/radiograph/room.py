"""How much is decoded at once: many small radiographs, or few large ones."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from lungbox.constants import DECODING_BYTES_AT_ONCE


class Room:
    """Lets threads in as long as what they bring fits; others wait.

    What is larger than all the room there is comes in alone.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Nobody is in: after a fork the threads that were are not there to leave."""
        self._taken = 0
        self._changed = Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Inside, `amount` of the room is taken."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + amount <= self._size)
            self._taken += amount
        try:
            yield
        finally:
            with self._changed:
                self._taken -= amount
                self._changed.notify_all()


# Memory of all threads that decode radiographs, in bytes.
ROOM = Room(DECODING_BYTES_AT_ONCE)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ROOM.clear)
