"""Networks of three kinds, built by name."""

from lungbox.architecture import segmentation as _segmentation  # noqa: F401  registers the networks
from lungbox.architecture.registry import Network, build, describe, names

__all__ = ["Network", "build", "describe", "names"]
