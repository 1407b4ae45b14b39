"""The numbers the system is fixed to; they stand in lungbox/constants.py."""

from lungbox.constants import *  # noqa: F403
