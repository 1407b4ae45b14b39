"""Networks of three kinds, built by name."""

# These register the networks.
from lungbox.architecture import classification as _classification  # noqa: F401
from lungbox.architecture import segmentation as _segmentation  # noqa: F401
from lungbox.architecture.detection import networks as _detection  # noqa: F401
from lungbox.architecture.registry import TRAINING_OPTIONS, Network, build, describe, names

__all__ = ["TRAINING_OPTIONS", "Network", "build", "describe", "names"]
