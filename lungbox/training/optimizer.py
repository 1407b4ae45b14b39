"""AdamW and SGD with a learning rate schedule, a lower rate for a pretrained encoder, and a moving
average of the weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from lungbox.training.sections import Optimizer


class _EncoderRate(keras.optimizers.Optimizer):
    """Gives an optimizer a learning rate factor for each variable, and a moving average that starts
    at once.

    The momentum of the moving average rises to the given one, as in TensorFlow's
    `ExponentialMovingAverage` with `num_updates`: with Keras' fixed momentum of 0.998, the initial
    weights would make up half of the average after 350 steps.

    Args:
        scale: the learning rate factor of a variable, by its path.
        kwargs: of the optimizer.
    """

    def __init__(self, scale: Callable[[str], float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._scale = scale
        self._scales: list[float] = []

    def build(self, variables: list[keras.Variable]) -> None:
        self._scales = [self._scale(variable.path) for variable in variables]
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        # The backend may pass its own variable, which has an index here but no Keras path.
        scale = self._scales[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * scale)

    def _update_model_variables_moving_average(self, trainable_variables: list) -> None:
        step = keras.ops.cast(self.iterations, "float32")
        momentum = keras.ops.minimum(self.ema_momentum, step / (step + 9))
        averages = self._model_variables_moving_average
        for variable, average in zip(trainable_variables, averages, strict=True):
            if average is not None:
                average.assign(momentum * average + (1 - momentum) * variable)


class EncoderAdamW(_EncoderRate, keras.optimizers.AdamW):
    """AdamW (Loshchilov and Hutter, 2019) with a learning rate factor for each variable."""


class EncoderSGD(_EncoderRate, keras.optimizers.SGD):
    """Stochastic gradient descent with momentum, and a learning rate factor for each variable."""


EncoderOptimizer = EncoderAdamW | EncoderSGD


class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, and a learning rate that is multiplied by a factor every so many steps.

    >>> rate = StepDecay(0.1, steps=10, factor=0.5, warmup=4)
    >>> [round(float(rate(step)), 3) for step in (0, 2, 9, 10, 20)]
    [0.0, 0.05, 0.1, 0.05, 0.025]
    """

    def __init__(self, rate: float, steps: int, factor: float, warmup: int = 0) -> None:
        super().__init__()
        self.rate, self.steps, self.factor, self.warmup = rate, steps, factor, warmup

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        decayed = self.rate * self.factor ** keras.ops.floor(step / self.steps)
        return decayed * keras.ops.minimum(1.0, step / self.warmup) if self.warmup else decayed

    def get_config(self) -> dict[str, Any]:
        names = ("rate", "steps", "factor", "warmup")
        return {name: getattr(self, name) for name in names}


@contextmanager
def moving_average_weights(model: keras.Model, optimizer: EncoderOptimizer) -> Iterator[None]:
    """Inside, the network has the moving average of its weights, where the optimizer keeps one.

    Not `keras.callbacks.SwapEMAWeights`: on TensorFlow it swaps by additions and subtractions
    (Keras 3.15), whose rounding errors stay in the weights, so that scoring would change the
    training that follows.
    """
    if not optimizer.use_ema:
        yield
        return
    # Copies: on JAX an array shared by two variables is deleted once one of them is donated.
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
    settings: Optimizer,
    model: keras.Model,
    steps: int,
    pretrained: frozenset[str],
    steps_per_epoch: int = 1,
) -> EncoderOptimizer:
    """The recipe's optimizer.

    Args:
        settings: the recipe's section.
        model: the network; its biases and normalisation have no weight decay.
        steps: training steps of the complete run, after which a cosine schedule is at 0.
        pretrained: paths of the variables that have the encoder's learning rate.
        steps_per_epoch: for a step schedule.
    """
    ratio = settings.encoder_learning_rate / settings.learning_rate
    shared: dict[str, Any] = {
        "scale": lambda path: ratio if path in pretrained else 1.0,
        "learning_rate": _schedule(settings, steps, steps_per_epoch),
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.clip_norm or None,
        "use_ema": settings.ema > 0,
        "ema_momentum": settings.ema or 0.99,
    }
    optimizer: EncoderOptimizer
    if settings.kind == "sgd":
        optimizer = EncoderSGD(momentum=settings.momentum, **shared)
    else:
        optimizer = EncoderAdamW(**shared)
    plain = [v for v in model.trainable_variables if v.path.endswith(("gamma", "beta", "bias"))]
    optimizer.exclude_from_weight_decay(var_list=plain)
    return optimizer


def _schedule(
    settings: Optimizer, steps: int, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up, then a cosine to 0, a constant rate, or one that falls in steps."""
    warmup = int(settings.warmup * steps)
    if settings.step_epochs:
        every = settings.step_epochs * steps_per_epoch
        return StepDecay(settings.learning_rate, every, settings.step_factor, warmup)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else settings.learning_rate,
        decay_steps=max(1, steps - warmup),
        # The final rate as a fraction of the first.
        alpha=1.0 if settings.schedule == "constant" else 0.0,
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
