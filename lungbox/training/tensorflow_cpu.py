"""Batch normalisation in one TensorFlow operation, for training on a CPU.

Keras composes it from a dozen elementwise operations; TensorFlow's executor runs each as a pass
over memory, which on a CPU is half of a light network's training step. This is the one place
outside the engines that knows TensorFlow: the arithmetic is the layer's own (a test holds both
equal), so a network trained with it is the same network.
"""

from types import MethodType
from typing import Any

import keras


def fuse_batch_norm(model: keras.Model) -> None:
    """Make `model`'s batch normalisation layers use TensorFlow's fused kernel while training.

    Call it before `fit`, on the TensorFlow backend, float32 policy. Inference is unchanged.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.call = MethodType(_call, layer)


def _call(
    layer: keras.layers.BatchNormalization, inputs: Any, training: bool = False, mask: Any = None
) -> Any:
    if not (training and layer.trainable):
        return keras.layers.BatchNormalization.call(layer, inputs, training=training, mask=mask)

    import tensorflow as tf  # only ever reached on the TensorFlow backend

    # In mixed precision the layer sees its scale and offset in bfloat16; the kernel's statistics
    # and what it multiplies by are float32 for inputs of either type.
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
