"""The sections of a recipe: what each key means, and what it may be."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from lungbox.radiograph.prepare import Preparation
from lungbox.training.masks import Edges, Shape

# Far above what anyone trains with, and low enough that a slip of the finger is refused before it
# takes all memory or a year.
MOST_BATCH, MOST_SIDE, MOST_EPOCHS, MOST_DRAWN = 4096, 4096, 10_000, 10_000_000
_MOST_RATE, _MOST_WEIGHT = 10.0, 1e6
Share = Annotated[float, Field(ge=0, le=_MOST_WEIGHT)]


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    if not 0 < values[0] <= values[1]:
        raise ValueError("two numbers above 0 are needed, the smaller first")
    if values[0] < 0.01 or values[1] > 100:
        raise ValueError("two numbers from 0.01 to 100 are needed")
    return values


Range = Annotated[tuple[float, float], AfterValidator(_rising)]


class Section(BaseModel):
    """Keys that are not known are refused, and so are numbers that are none, or infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Section):
    """Which images are learned from, and how often each is seen.

    Attributes:
        folds: the folds trained on; every other is never looked at.
        sources: the data sets learned from; all that are there where empty.
        preparation: see `radiograph.prepare`; where it is not given, `nearest` for the reference
            system's networks and `equalised` for all others.
        order: `drawn` draws an epoch's images by the weights below; `fixed` takes every image
            once, in an order that is the same in every epoch, as the reference system does.
        samples_per_epoch: images drawn for one epoch, with replacement across epochs.
        source_weights: how often an image of a data set is drawn, against the others.
        category_weights: the same for a class of image, on top.
        balance: attributes over whose combinations, within a data set, draws are evened out.
        shape: whether a box is painted as a rectangle or as the ellipse inside it.
        edges: `soft` paints the share of a mask pixel that is covered, `hard` 1 where its centre
            is and 0 elsewhere, `truncated` cuts the corners of rectangles down to whole mask
            pixels, as the reference system does.
    """

    folds: tuple[int, ...] = Field((1, 2, 3, 4), min_length=1)
    sources: tuple[str, ...] = ()
    preparation: Preparation | None = None
    order: Literal["drawn", "fixed"] = "drawn"
    samples_per_epoch: int | None = Field(None, gt=0, le=MOST_DRAWN)
    source_weights: dict[str, Share] = {}
    category_weights: dict[str, Share] = {}
    balance: tuple[Literal["view", "target"], ...] = ()
    shape: Shape = "rectangle"
    edges: Edges = "soft"

    @model_validator(mode="after")
    def _truncated_rectangles(self) -> "Data":
        if self.edges == "truncated" and self.shape != "rectangle":
            raise ValueError("edges = truncated is for shape = rectangle")
        return self

    @model_validator(mode="after")
    def _drawn_or_fixed(self) -> "Data":
        weighted = self.source_weights or self.category_weights or self.balance
        if self.order == "fixed" and (self.samples_per_epoch or weighted):
            raise ValueError("a fixed order takes every image once: no number and no weights")
        if self.order == "drawn" and not self.samples_per_epoch:
            raise ValueError("samples_per_epoch is missing")
        return self


class Augmentation(Section):
    """Probabilities in 0-1, angles in degrees, shifts as shares of the side.

    Attributes:
        enabled: whether anything is done at all.
    """

    enabled: bool = True
    flip: float = Field(0.5, ge=0, le=1)
    rotate: float = Field(10, ge=0, le=180)
    scale: Range = (0.85, 1.15)
    shift: float = Field(0.06, ge=0, le=1)
    shear: float = Field(4, ge=0, lt=90)
    gamma: Range = (0.7, 1.4)
    clahe: float = Field(0.15, ge=0, le=1)
    blur: float = Field(0.15, ge=0, le=1)
    noise: float = Field(0.15, ge=0, le=1)
    jpeg: float = Field(0.2, ge=0, le=1)
    erase_corner: float = Field(0.4, ge=0, le=1)


class Loss(Section):
    """Weights of the loss's terms.

    Attributes:
        bce, iou, dice, focal, lovasz: of the mask's, see `metrics.losses.MaskLoss`.
        over, channels: what overlap is summed over and of, see `metrics.losses.soft_iou`.
        squared: whether the Dice term is V-Net's; without, it is 1 - the soft F1.
        gamma, alpha: of the focal term.
        image: of the image score's binary cross-entropy, where the network has one.
        edges: of the binary cross-entropy of four more maps, the top, bottom, left and right edges
            of the boxes, which a head that is only there in training paints (as the challenge's
            sixth place did).
        label_smoothing: the image targets become this half away from 0 and 1, so that the score
            does not saturate on images that are learned by heart.
    """

    bce: Share = 0.5
    iou: Share = 0.5
    dice: Share = 0.0
    focal: Share = 0.0
    lovasz: Share = 0.0
    over: Literal["batch", "image"] = "batch"
    channels: Literal["all", "foreground", "each"] = "foreground"
    squared: bool = True
    gamma: float = Field(2.0, ge=0, le=100)
    alpha: float = Field(0.25, ge=0, le=1)
    image: Share = 1.0
    edges: Share = 0.0
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class Optimizer(Section):
    """AdamW under a schedule, and the moving average that is kept.

    Attributes:
        learning_rate: its height after the warm-up, for decoder and heads.
        encoder_learning_rate: the same for a pretrained encoder; 0 freezes it, its normalisation
            too.
        schedule: after the warm-up, `cosine` falls to 0 at the last step, `constant` stays.
        warmup: share of all steps over which it rises from 0.
        weight_decay: decoupled, at `learning_rate` for the encoder too; not on biases and
            normalisation. 0 makes it Adam.
        clip_norm: the gradient's largest norm; 0 lets it be.
        ema: momentum of the moving average of the weights; 0 keeps the last weights.
    """

    learning_rate: float = Field(1e-3, gt=0, le=_MOST_RATE)
    encoder_learning_rate: float = Field(3e-4, ge=0, le=_MOST_RATE)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0, le=_MOST_RATE)
    clip_norm: float = Field(5.0, ge=0, le=_MOST_WEIGHT)
    ema: float = Field(0.998, ge=0, lt=1)


class Stage(Section):
    """Some epochs at one image size.

    Attributes:
        epochs: how many.
        image_size: side of the square, in pixels.
        source_weights: how often an image of a data set is drawn, in place of the recipe's own;
            0 leaves it out.
    """

    epochs: int = Field(gt=0, le=MOST_EPOCHS)
    image_size: int = Field(gt=0, le=MOST_SIDE, multiple_of=32)
    source_weights: dict[str, Share] = {}


class Validation(Section):
    """Scoring on a fold that is not trained on, while training goes on.

    Attributes:
        fold: that fold; None scores nothing.
        every: after how many epochs, and after the last.
        batch_size: of the loss on it, which depends on it where overlap is summed over the batch;
            the recipe's own where None.
        patience: training ends when the metric has not risen for so many scores, and the weights
            of the best are kept; 0 trains to the end and keeps the last. Where it is not 0, the
            fold has chosen the weights, which the manifest then says.
    """

    fold: int | None = Field(None, ge=0)
    every: int = Field(2, gt=0, le=MOST_EPOCHS)
    batch_size: int | None = Field(None, gt=0, le=MOST_BATCH)
    patience: int = Field(0, ge=0, le=MOST_EPOCHS)

    @model_validator(mode="after")
    def _patience_needs_a_fold(self) -> "Validation":
        if self.patience and self.fold is None:
            raise ValueError("patience needs validation.fold")
        return self


class Distillation(Section):
    """Learning from an ensemble's masks and image scores.

    Attributes:
        teacher: the ensemble, a name in the manifest.
        share: how much of a labelled image's target is the teacher's; the rest is the readers'.
            An image without labels has the teacher's alone.
    """

    teacher: str
    share: float = Field(0.7, gt=0, le=1)
