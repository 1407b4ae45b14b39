"""A network ready to be trained, and the part of it that stays."""

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from lungbox import architecture
from lungbox.frameworks import compile_choice, dtype_policy
from lungbox.metrics.losses import MaskLoss
from lungbox.metrics.mask_metrics import F1, MeanIoU, PixelAccuracy, ReferenceMeanIoU
from lungbox.training.optimizer import EncoderAdamW, build_optimizer
from lungbox.training.recipe import Recipe, RecipeError
from lungbox.weights.imagenet import load_encoder

EDGES = 4
# Of the images that are there: a last batch may be filled up.
_MEAN = "mean_with_sample_weight"


@dataclass(frozen=True)
class Trainee:
    """A compiled network.

    Attributes:
        whole: what is trained, with heads that are only there in training.
        kept: what is kept of it; the same layers.
        optimizer: its optimizer.
    """

    whole: keras.Model
    kept: keras.Model
    optimizer: EncoderAdamW

    @property
    def heads(self) -> tuple[str, ...]:
        """The outputs that are trained."""
        return tuple(self.whole.output)


def build_trainee(recipe: Recipe, image_size: int, steps: int) -> Trainee:
    """Build and compile what a recipe trains.

    Args:
        recipe: the recipe.
        image_size: of the stage.
        steps: of the whole run.

    Raises:
        RecipeError: the network refuses its options, or cannot paint edges.
        WeightsError: the encoder's weights are not there.
    """
    keras.utils.set_random_seed(recipe.seed)
    with dtype_policy(recipe.policy):
        try:
            kept = architecture.build(recipe.architecture, image_size, **recipe.options)
        except (TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise RecipeError(f"options: {recipe.architecture} refuses them ({reason})") from error
    pretrained: frozenset[str] = frozenset()
    if recipe.encoder_weights != "none":
        encoder = architecture.describe(recipe.architecture).encoder
        pretrained = load_encoder(kept, encoder, recipe.encoder_file)
    if recipe.optimizer.encoder_learning_rate == 0:
        _freeze(kept, pretrained)
    whole = _with_edges(kept, recipe) if recipe.loss.edges else kept
    optimizer = build_optimizer(recipe.optimizer, whole, steps, pretrained)
    if keras.backend.backend() == "tensorflow":
        from lungbox.training.tensorflow_cpu import fuse_batch_norm

        fuse_batch_norm(whole)
    _compile(whole, optimizer, recipe)
    return Trainee(whole, kept, optimizer)


def _compile(model: keras.Model, optimizer: EncoderAdamW, recipe: Recipe) -> None:
    settings = recipe.loss
    losses: dict[str, keras.losses.Loss] = {
        "mask": MaskLoss(
            bce=settings.bce,
            iou=settings.iou,
            dice=settings.dice,
            focal=settings.focal,
            lovasz=settings.lovasz,
            over=settings.over,
            channels=settings.channels,
            squared=settings.squared,
            gamma=settings.gamma,
            alpha=settings.alpha,
        ),
        "image": keras.losses.BinaryCrossentropy(
            label_smoothing=settings.label_smoothing, reduction=_MEAN
        ),
        "edges": keras.losses.BinaryCrossentropy(reduction=_MEAN),
    }
    shares = {"mask": 1.0, "image": settings.image, "edges": settings.edges}
    metrics = [PixelAccuracy("accuracy"), MeanIoU(), ReferenceMeanIoU(), F1()]
    model.compile(
        optimizer=optimizer,
        loss={head: losses[head] for head in model.output},
        loss_weights={head: shares[head] for head in model.output},
        # Weighted, for what only fills up a batch has a weight of 0.
        weighted_metrics={"mask": metrics},
        jit_compile=compile_choice(),
    )
    optimizer.build(model.trainable_variables)
    _build_losses_and_metrics(model)


def _build_losses_and_metrics(model: keras.Model) -> None:
    """Build them now: `fit` would do it from a first batch, and hand out that epoch's batches in
    another order then (Keras 3.15 keeps those it had made ready and begins with them)."""
    nothing = {head: np.zeros((1, *y.shape[1:]), np.float32) for head, y in model.output.items()}
    model.compute_loss(y=nothing, y_pred=nothing)
    model.compute_metrics(x=None, y=nothing, y_pred=nothing)
    model.reset_metrics()


def _freeze(model: keras.Model, pretrained: frozenset[str]) -> None:
    """Keep every layer that holds a pretrained weight as it is, its statistics too."""
    for layer in model.layers:
        if any(variable.path in pretrained for variable in layer.variables):
            layer.trainable = False


def _with_edges(model: keras.Model, recipe: Recipe) -> keras.Model:
    """The network with one more head, on the features its mask is painted from."""
    try:
        features = model.get_layer("mask_logits").input
    except ValueError:
        raise RecipeError(f"loss.edges: {recipe.architecture} has no place for that head") from None
    edges = layers.Conv2D(EDGES, 1, name="edges_logits", dtype="float32")(features)
    edges = layers.Activation("sigmoid", name="edges", dtype="float32")(edges)
    return keras.Model(model.input, {**model.output, "edges": edges})
