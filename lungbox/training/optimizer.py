"""AdamW under a schedule, with a lower rate for a pretrained encoder, and an average that is
taken once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from lungbox.training.sections import Optimizer


class EncoderAdamW(keras.optimizers.AdamW):
    """AdamW (Loshchilov and Hutter, 2019) whose steps on some variables are scaled.

    The moving average of the weights differs from Keras's in two ways. It is taken only by
    `finalize_variable_values` after the last epoch: Keras would take it at the end of every
    `fit`, and a run calls that once an epoch. And its momentum rises to the one asked for, as
    in TensorFlow's `ExponentialMovingAverage` with `num_updates`: with a fixed one of 0.998, half
    of what a run of 350 steps keeps would be the weights it began with.
    """

    def __init__(self, scale: Callable[[str], float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._scale = scale
        self._scales: list[float] = []
        self.last_epoch = False

    def build(self, variables: list[keras.Variable]) -> None:
        self._scales = [self._scale(variable.path) for variable in variables]
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        # The backend may hand over its own variable, which has an index here but no Keras path.
        scale = self._scales[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * scale)

    def _update_model_variables_moving_average(self, trainable_variables: list) -> None:
        step = keras.ops.cast(self.iterations, "float32")
        momentum = keras.ops.minimum(self.ema_momentum, step / (step + 9))
        averages = self._model_variables_moving_average
        for variable, average in zip(trainable_variables, averages, strict=True):
            if average is not None:
                average.assign(momentum * average + (1 - momentum) * variable)

    def finalize_variable_values(self, var_list: list) -> None:
        if self.last_epoch:
            super().finalize_variable_values(var_list)


@contextmanager
def averaged(model: keras.Model, optimizer: EncoderAdamW) -> Iterator[None]:
    """Inside, the network has the moving average of its weights, where the optimizer keeps one."""
    if not optimizer.use_ema:
        yield
        return
    # Copies: on JAX an array that two variables share is gone once one of them is given away.
    own = [np.array(variable) for variable in model.trainable_variables]
    averages = optimizer._model_variables_moving_average
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        variable.assign(np.array(average))
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, own, strict=True):
            variable.assign(value)


def build_optimizer(
    settings: Optimizer, model: keras.Model, steps: int, pretrained: frozenset[str]
) -> EncoderAdamW:
    """The recipe's optimizer for `steps` steps.

    Args:
        settings: the recipe's.
        model: decides what is not decayed: biases and normalisation.
        steps: of the whole run; a cosine ends at 0 there.
        pretrained: paths of the variables that take the encoder's rate.
    """
    ratio = settings.encoder_learning_rate / settings.learning_rate
    optimizer = EncoderAdamW(
        scale=lambda path: ratio if path in pretrained else 1.0,
        learning_rate=_schedule(settings, steps),
        weight_decay=settings.weight_decay,
        global_clipnorm=settings.clip_norm or None,
        use_ema=settings.ema > 0,
        ema_momentum=settings.ema or 0.99,
    )
    plain = [v for v in model.trainable_variables if v.path.endswith(("gamma", "beta", "bias"))]
    optimizer.exclude_from_weight_decay(var_list=plain)
    return optimizer


def _schedule(settings: Optimizer, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A rise over the warm-up, then a cosine to 0, or one that does not fall."""
    warmup = int(settings.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else settings.learning_rate,
        decay_steps=max(1, steps - warmup),
        # The share that the cosine ends at.
        alpha=1.0 if settings.schedule == "constant" else 0.0,
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
