"""Networks that learn a little in a second, where the smallest real one takes half a minute."""

from contextlib import contextmanager

import keras

from lungbox.architecture import heads, registry


def two_convolutions(image_size: int = 64, dropout: float = 0.1) -> keras.Model:
    """Has what a real one has: batch normalisation, dropout, a stride, both heads."""
    inputs = keras.Input((image_size, image_size, 1))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(8, 5, strides=2, padding="same", name="first")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dropout(dropout)(keras.layers.ReLU()(x))
    outputs = keras.layers.Conv2D(2, 5, strides=2, padding="same", name="second")(x)
    mask = heads.mask(outputs)
    return keras.Model(inputs, {"mask": mask, "image": heads.image_score(x, mask)})


def only_a_mask(image_size: int = 64) -> keras.Model:
    """Has no image head, as the reference system's networks have none."""
    whole = two_convolutions(image_size)
    return keras.Model(whole.input, {"mask": whole.output["mask"]})


def like_the_reference(image_size: int = 64) -> keras.Model:
    """One of the reference system's, as far as the registry says."""
    return only_a_mask(image_size)


def small_classifier(image_size: int = 64, classes: int = 1, dropout: float = 0.1) -> keras.Model:
    """A classification network for any number of classes."""
    inputs = keras.Input((image_size, image_size, 1))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(8, 5, strides=4, padding="same", name="first")(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="norm")(x))
    return keras.Model(inputs, heads.classes(x, classes, dropout), name="small_classifier")


@contextmanager
def registered(*builds):
    """These are known by name inside; all of this module where none is given."""
    known = dict(registry._NETWORKS)
    ours = (two_convolutions, only_a_mask, like_the_reference)
    for build in builds or ours:
        reference, head = (
            build is like_the_reference,
            build not in (only_a_mask, like_the_reference),
        )
        registry.network(
            encoder="none", stride=4, image_size=64, image_head=head, reference=reference
        )(build)
    if not builds:
        registry.network(
            encoder="none", image_size=64, kind="classification", class_names=("abnormal",)
        )(small_classifier)
    try:
        yield
    finally:
        registry._NETWORKS.clear()
        registry._NETWORKS.update(known)
