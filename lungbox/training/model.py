"""Building and compiling the networks of a training run."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from lungbox import architecture
from lungbox.architecture.heads import derives_image_score
from lungbox.common.backend import compile_choice, dtype_policy
from lungbox.datasets.label_sets import LABEL_SETS, LabelSet
from lungbox.training.devices import fuse_batch_norm, gather
from lungbox.training.heads import DECODED, HEADS, Head, heads_for
from lungbox.training.initial_weights import encoder_file, initial_file
from lungbox.training.optimizer import EncoderOptimizer, build_optimizer
from lungbox.training.recipe import Recipe, RecipeError, check_known
from lungbox.training.sections import Loss
from lungbox.weights.formats.imagenet import load_encoder
from lungbox.weights.formats.safetensors import load_weights


@dataclass(frozen=True)
class TrainableNetwork:
    """A compiled network.

    Attributes:
        training_model: the network that is trained, auxiliary heads included.
        inference_model: the network that is saved; it shares its layers.
        optimizer: the training model's optimizer.
    """

    training_model: keras.Model
    inference_model: keras.Model
    optimizer: EncoderOptimizer

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """The shape of each output that is trained, without the batch axis."""
        return {name: y.shape[1:] for name, y in self.training_model.output.items()}


def check_network(recipe: Recipe) -> None:
    """Check that the recipe's network exists and has the recipe's options.

    Raises:
        NetworkError: there is no such network.
        RecipeError: it has no such option, or `data.labels` or a teacher do not fit its kind.
    """
    network = architecture.describe(recipe.architecture)
    if network.kind == "classification" and not recipe.data.labels:
        raise RecipeError(
            f"data.labels: {network.name} is a classification network; give one of "
            f"{', '.join(LABEL_SETS)}"
        )
    if recipe.data.labels and network.kind != "classification":
        raise RecipeError(
            f"data.labels: for classification networks only; {network.name} is a {network.kind} "
            "network"
        )
    if recipe.distillation and network.kind != "segmentation":
        raise RecipeError(
            f"distillation: a teacher's masks train segmentation networks, and {network.name} is a "
            f"{network.kind} network"
        )
    known = set(inspect.signature(network.build).parameters) - {"image_size", "classes"}
    check_known("options", recipe.options, known)
    if recipe.data.task == "findings" and network.kind != "detection":
        raise RecipeError(
            f"data.task: boxes of several findings need a detection network, and {network.name} is "
            f"a {network.kind} network"
        )


def build_trainable(
    recipe: Recipe, image_size: int, steps: int, class_names: Sequence[str] | None = None
) -> TrainableNetwork:
    """Build and compile the network of a recipe.

    Args:
        recipe: the recipe.
        image_size: the stage's image size, in pixels.
        steps: training steps of the complete run.
        class_names: the network's classes; those in the registry if None.

    Raises:
        RecipeError: the network refuses its options, or an auxiliary head does not fit it.
        WeightsError: the encoder's or the initial weights are unavailable, or of another network.
    """
    keras.utils.set_random_seed(recipe.seed)
    with dtype_policy(recipe.policy):
        try:
            labels = recipe.label_set
            inference_model = architecture.build(
                recipe.architecture,
                image_size,
                class_names=labels.class_names if labels else class_names,
                **recipe.options,
            )
        except (TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise RecipeError(f"options: {recipe.architecture} refuses them ({reason})") from error
    pretrained: frozenset[str] = frozenset()
    if recipe.encoder_weights != "none":
        encoder = architecture.describe(recipe.architecture).encoder
        pretrained = load_encoder(inference_model, encoder, encoder_file(recipe))
    if recipe.initial_weights:
        load_weights(inference_model, initial_file(recipe))
    if recipe.optimizer.encoder_learning_rate == 0:
        _freeze(inference_model, pretrained, layers.Layer)
    elif recipe.optimizer.freeze_batch_norm:
        _freeze(inference_model, pretrained, layers.BatchNormalization)
    training_model = _with_trained_outputs(inference_model, recipe)
    optimizer = build_optimizer(
        recipe.optimizer, training_model, steps, pretrained, steps // recipe.epochs
    )
    if keras.backend.backend() == "tensorflow":
        fuse_batch_norm(training_model)
    compile_model(training_model, recipe.loss, optimizer, recipe.label_set)
    return TrainableNetwork(training_model, inference_model, optimizer)


def compile_model(
    model: keras.Model,
    settings: Loss,
    optimizer: EncoderOptimizer | None,
    labels: LabelSet | None = None,
) -> None:
    """Compile a network with the losses and metrics of its outputs' heads.

    Args:
        model: a network with an output for each of some heads.
        settings: the recipe's section.
        optimizer: None for a network that is only evaluated.
        labels: of a classification network.
    """
    heads = _trained_heads(model, labels)
    model.compile(
        optimizer=optimizer,
        loss={name: head.loss(settings) for name, head in heads.items()},
        loss_weights={name: head.weight(settings) for name, head in heads.items()},
        # Weighted: the padding of a last batch has a weight of 0.
        weighted_metrics={
            name: [metric(key) for key, metric in head.metrics.items()]
            for name, head in heads.items()
            if head.metrics
        },
        jit_compile=compile_choice(),
    )
    if optimizer is not None:
        optimizer.build(model.trainable_variables)
    _build_losses_and_metrics(model, heads)


def named_as_logged(logs: Mapping[str, float], outputs: Sequence[str]) -> dict[str, float]:
    """Keras' logs under the names of `log.csv`.

    Keras writes the output before a metric's name, and the loss of each output, only where there
    are several outputs.

    Example:
        >>> named_as_logged({"loss": 0.5, "f1": 0.25}, ["mask"])
        {'loss': 0.5, 'mask_loss': 0.5, 'f1': 0.25}
    """
    found = {"loss": logs["loss"]}
    for output in outputs:
        loss = logs.get(f"{output}_loss", logs["loss"] if len(outputs) == 1 else None)
        named = {metric: logs.get(f"{output}_{metric}", logs.get(metric))
                 for metric in HEADS[output].metrics}  # fmt: skip
        values = {f"{output}_loss": loss} | named
        found |= {name: float(value) for name, value in values.items() if value is not None}
    return found


class EvaluationModel(keras.Model):
    """A network whose evaluation also reports its predictions, as `output_NAME` in the batch logs.

    So one pass over the held-out fold gives losses, metrics and predictions.

    Attributes:
        trained: names of the outputs with a loss.
        predicted: names of the outputs that are reported, those of the inference model.
    """

    trained: tuple[str, ...]
    predicted: tuple[str, ...]

    @classmethod
    def of(
        cls, network: TrainableNetwork, settings: Loss, labels: LabelSet | None = None
    ) -> "EvaluationModel":
        """The layers of both models, compiled for evaluation; arguments as `compile_model`."""
        trained, predicted = network.training_model.output, network.inference_model.output
        model = cls(network.training_model.input, {**trained, **predicted})
        model.trained, model.predicted = tuple(trained), tuple(predicted)
        compile_model(model, settings, None, labels)
        return model

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *arguments: Any, **named: Any
    ) -> Any:
        return super().compute_loss(x, y, self._trained(y_pred), *arguments, **named)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        metrics = super().compute_metrics(x, y, self._trained(y_pred), sample_weight)
        # Gathered, because Keras reports the mean over devices of what each one returns.
        return metrics | {f"output_{name}": gather(y_pred[name]) for name in self.predicted}

    def _trained(self, y_pred: Any) -> Any:
        return {name: y_pred[name] for name in self.trained}


def _build_losses_and_metrics(model: keras.Model, heads: Mapping[str, Head]) -> None:
    """Build losses and metrics before `fit` does so from a first batch: Keras 3.15 on JAX keeps
    the batches prepared for it and begins the epoch with them, in another order."""
    shapes = {name: y.shape[1:] for name, y in model.output.items()}
    y_pred = {name: np.zeros((1, *shape), np.float32) for name, shape in shapes.items()}
    y = {
        name: np.zeros((1, *head.target_shape(shapes[name], 1)), np.float32)
        for name, head in heads.items()
    }
    model.compute_loss(y=y, y_pred=y_pred)
    model.compute_metrics(x=None, y=y, y_pred=y_pred)
    model.reset_metrics()


def _freeze(model: keras.Model, pretrained: frozenset[str], kind: type[layers.Layer]) -> None:
    """Freeze the layers of a kind that have a pretrained weight; normalisation with its
    statistics."""
    for layer in model.layers:
        has_one = any(variable.path in pretrained for variable in layer.variables)
        if has_one and isinstance(layer, kind):
            layer.trainable = False


def _trained_heads(model: keras.Model, labels: LabelSet | None) -> dict[str, Head]:
    """The head of each output that has a loss."""
    trained = model.trained if isinstance(model, EvaluationModel) else model.output
    return heads_for(trained, labels)


def _with_trained_outputs(model: keras.Model, recipe: Recipe) -> keras.Model:
    """The network with the outputs that exist only in training, and without those that have no
    loss: an image score that is one of its classes, and decoded boxes. Itself where there is
    neither."""
    outputs = {name: y for name, y in model.output.items() if name not in DECODED}
    if recipe.label_set and derives_image_score(len(recipe.label_set.class_names)):
        del outputs["image"]
    for name, head in HEADS.items():
        if name in model.output or not head.weight(recipe.loss):
            continue
        try:
            output = head.auxiliary_output(model)
        except ValueError:
            raise RecipeError(
                f"loss.{name}: {recipe.architecture} has no layer for that head"
            ) from None
        if output is not None:
            outputs[name] = output
    return model if outputs.keys() == model.output.keys() else keras.Model(model.input, outputs)
