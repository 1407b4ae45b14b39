"""What training does for its devices: sharing each batch among several GPUs, and a faster batch
normalisation on a CPU.

Outside the engines and the export this is the one module that knows TensorFlow.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import keras

from lungbox.common.backend import devices_in_step
from lungbox.training.recipe import Recipe, RecipeError


@contextmanager
def distributed(recipe: Recipe) -> Iterator[int]:
    """Build and train inside: on all devices where the recipe says so. Yields their number.

    The recipe's batch is the global batch, of which each device has a part. On JAX all devices
    compute one loss of the complete batch; on TensorFlow each computes its part's loss, and these
    are averaged.

    Raises:
        RecipeError: the batch size is not a multiple of the number of devices.
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
    """All GPUs; without any, the CPU devices that the backend was configured with."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        return [device.name for device in tf.config.list_logical_devices(kind)]
    return keras.distribution.list_devices()


def gather(outputs: Any) -> Any:
    """Within a step: the outputs `(B, ...)` of the complete batch, of which each device of a
    TensorFlow strategy has computed a part. Elsewhere `outputs` is complete already."""
    if devices_in_step() == 1:
        return outputs
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    return outputs if replica is None else replica.all_gather(outputs, axis=0)


def fuse_batch_norm(model: keras.Model) -> None:
    """Make `model`'s batch normalisation layers use TensorFlow's fused kernel in training.

    Keras composes batch normalisation from a dozen elementwise operations, each a pass over memory,
    which on a CPU is half of a small network's training step. The arithmetic is the layer's own (a
    test holds both equal). Call it before `fit`, on the TensorFlow backend. Inference is unchanged.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.call = MethodType(_fused_call, layer)


def _fused_call(
    layer: keras.layers.BatchNormalization, inputs: Any, training: bool = False, mask: Any = None
) -> Any:
    if not (training and layer.trainable):
        return keras.layers.BatchNormalization.call(layer, inputs, training=training, mask=mask)

    import tensorflow as tf  # only ever reached on the TensorFlow backend

    # In mixed precision the layer's scale and offset are autocast to bfloat16; the kernel takes
    # float32 ones for inputs of either type.
    scale, offset = (
        tf.cast(tf.convert_to_tensor(v), tf.float32) for v in (layer.gamma, layer.beta)
    )
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs, scale, offset, epsilon=layer.epsilon, is_training=True
    )
    # The kernel divides by n - 1 for the moving variance, Keras by n.
    count = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], variance.dtype)
    variance = variance * (count - 1) / count
    for moving, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(moving * layer.momentum + batch * (1.0 - layer.momentum))
    return outputs
