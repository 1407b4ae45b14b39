"""The networks: encoder x decoder x head, built by name."""

from lungbox.architecture import segmentation as _segmentation  # noqa: F401  registers them
from lungbox.architecture.registry import Network, build, describe, names

__all__ = ["Network", "build", "describe", "names"]
