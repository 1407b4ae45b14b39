"""The network that an entry of the manifest describes."""

import keras

from lungbox import architecture
from lungbox.weights.entries import Weights


def build_network(entry: Weights) -> keras.Model:
    """Build the network of an entry with random weights: for its size, its classes, with its
    options.

    Raises:
        NetworkError: there is no such network, or it cannot be built so.
    """
    return architecture.build(
        entry.architecture, entry.image_size, entry.class_names, **entry.options
    )
