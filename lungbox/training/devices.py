"""One device or all of a machine's, which then share each batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from lungbox.training.recipe import Recipe, RecipeError


@contextmanager
def distributed(recipe: Recipe) -> Iterator[int]:
    """Build and train inside: on all devices where the recipe says so. Gives how many there are.

    The global batch stays the recipe's: each device has its part of it. On JAX all devices compute
    one loss of the whole batch; on TensorFlow each computes its part's, and these are averaged.

    Raises:
        RecipeError: the batch cannot be shared evenly.
    """
    names = _devices() if recipe.devices == "all" else []
    if len(names) < 2:
        yield 1
        return
    if recipe.batch_size % len(names):
        raise RecipeError(
            f"batch_size {recipe.batch_size} cannot be shared by {len(names)} devices; "
            f"give a multiple of {len(names)}"
        )
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.distribute.MirroredStrategy(names).scope():
            yield len(names)
        return
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names))
    try:
        yield len(names)
    finally:
        keras.distribution.set_distribution(before)


def _devices() -> list[str]:
    """Every GPU; without any, every processor that the backend was told to count apart."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        return [device.name for device in tf.config.list_logical_devices(kind)]
    return keras.distribution.list_devices()
