"""The sections of a recipe: the meaning and the allowed values of each key."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from lungbox.datasets.label_sets import LabelSetName
from lungbox.radiograph.prepare import Preparation
from lungbox.training.targets import Edges, Shape

# Far above any sensible value, and low enough that a typing error is refused before it takes all
# memory or a year.
MOST_BATCH, MOST_SIDE, MOST_EPOCHS, MOST_DRAWN = 4096, 4096, 10_000, 10_000_000
_MOST_RATE, _MOST_WEIGHT = 10.0, 1e6
Share = Annotated[float, Field(ge=0, le=_MOST_WEIGHT)]


def _check_range(values: tuple[float, float]) -> tuple[float, float]:
    if not 0 < values[0] <= values[1]:
        raise ValueError("give two numbers above 0, the smaller first")
    if values[0] < 0.01 or values[1] > 100:
        raise ValueError("give two numbers from 0.01 to 100")
    return values


Range = Annotated[tuple[float, float], AfterValidator(_check_range)]


class Section(BaseModel):
    """Base of all sections: unknown keys, NaN and infinite numbers are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Section):
    """The training images, how often each is drawn, and how boxes become masks.

    Attributes:
        folds: the folds trained on.
        sources: the data sets trained on; all of the data where empty.
        task: `opacity`, boxes of one class, lung opacity; or `findings`, boxes of several classes,
            of data sets that have them (see `datasets.as_findings`), by a detection network.
        classes: the findings, in the order of the network's outputs; all of the data where empty.
        opacity: the classes of boxes that are opacity in data sets of several findings; those
            that the data set declares where empty.
        labels: what a classification network is trained on, see `datasets.label_sets`: `abnormal`
            or not; RSNA's `three` classes; the 14 findings of `nih` or of `vinbigdata`. Images of
            which none is known are left out.
        preparation: see `radiograph.prepare`; by default `nearest` for the reference system's
            networks and `equalised` for all others. `padded` pads radiographs to a square in place
            of squashing them; the ensemble that is registered does, too.
        order: `drawn` samples an epoch's images by the weights below; `fixed` takes each image
            once, in the same order in every epoch, as the reference system does.
        samples_per_epoch: images drawn for one epoch, with replacement across epochs.
        source_weights: sampling weight of the images of a data set.
        category_weights: sampling weight of the images of a class; the two are multiplied.
        max_per_patient: a patient with more images is drawn as often as one with this number; no
            limit where None.
        weak_targets: image target of uncertain images by class, the probability that they show an
            opacity. Such images are trained on without a mask.
        findings: the labels of `datasets.findings.FINDINGS` that `loss.findings` trains; all of
            them where empty. With `abnormal` alone, the two image-level targets are those of three
            classes: normal, abnormal without opacity, opacity.
        balance: attributes whose combinations are drawn equally often within a data set.
        shape: whether a box is rasterized as a rectangle or as the ellipse inside it.
        edges: `soft` gives a mask pixel its covered share, `hard` 1 where its centre is covered
            and 0 elsewhere, `truncated` truncates the corners of rectangles to integer mask
            pixels, as the reference system does.
    """

    folds: tuple[int, ...] = Field((1, 2, 3, 4), min_length=1)
    sources: tuple[str, ...] = ()
    task: Literal["opacity", "findings"] = "opacity"
    classes: tuple[str, ...] = ()
    opacity: tuple[str, ...] = ()
    labels: LabelSetName | None = None
    preparation: Preparation | None = None
    order: Literal["drawn", "fixed"] = "drawn"
    samples_per_epoch: int | None = Field(None, gt=0, le=MOST_DRAWN)
    source_weights: dict[str, Share] = {}
    category_weights: dict[str, Share] = {}
    max_per_patient: int | None = Field(None, gt=0)
    weak_targets: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    findings: tuple[str, ...] = ()
    balance: tuple[Literal["view", "target"], ...] = ()
    shape: Shape = "rectangle"
    edges: Edges = "soft"

    @model_validator(mode="after")
    def _check_task(self) -> "Data":
        if self.classes and self.task != "findings":
            raise ValueError("classes: only with task = findings")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: each only once")
        if self.opacity and self.task != "opacity":
            raise ValueError("opacity: only with task = opacity")
        return self

    @model_validator(mode="after")
    def _check_edges(self) -> "Data":
        if self.edges == "truncated" and self.shape != "rectangle":
            raise ValueError("edges = truncated needs shape = rectangle")
        return self

    @model_validator(mode="after")
    def _check_order(self) -> "Data":
        weighted = (
            self.source_weights or self.category_weights or self.balance or self.max_per_patient
        )
        if self.order == "fixed" and (self.samples_per_epoch or weighted):
            raise ValueError("a fixed order takes each image once: no samples_per_epoch or weights")
        if self.order == "drawn" and not self.samples_per_epoch:
            raise ValueError("samples_per_epoch is missing")
        return self


class Augmentation(Section):
    """Data augmentation.

    Attributes:
        enabled: whether images are augmented.
        flip, clahe, blur, noise, jpeg, erase_corner: probabilities, 0-1.
        rotate90: probability of a rotation by 90, 180 or 270 degrees.
        invert: probability that the gray levels are inverted, after equalisation.
        rotate, shear: largest angles, in degrees.
        box_rotation: a rotated box is the bounding box of its corners (`bounding`), or of the
            points at 1/3 and 2/3 of its sides (`third_points`), which grows less.
        scale, gamma: ranges of factors.
        shift: largest translation, as a fraction of the side.
    """

    enabled: bool = True
    flip: float = Field(0.5, ge=0, le=1)
    rotate90: float = Field(0.0, ge=0, le=1)
    invert: float = Field(0.0, ge=0, le=1)
    rotate: float = Field(10, ge=0, le=180)
    box_rotation: Literal["bounding", "third_points"] = "bounding"
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
    """Weights and parameters of the losses.

    Attributes:
        bce, iou, dice, focal, lovasz: weights of the mask's terms, see `metrics.losses.MaskLoss`.
        over, channels: what overlap is summed over, see `metrics.losses.soft_iou`.
        squared: whether the Dice term is V-Net's; otherwise it is 1 - the soft F1.
        gamma, alpha: parameters of the focal term, and of the focal loss of detection networks.
        box: the loss of the boxes of detection networks: 1 - the generalized IoU (`giou`), or
            `smooth_l1` of their deltas.
        box_weight: its weight beside the loss of their classes.
        image: weight of the image score's binary cross-entropy, where the network has one. A
            classification network of several findings has one, too: any of them.
        edges: weight of the binary cross-entropy of an auxiliary head, which exists only in
            training: maps of the top, bottom, left and right edges of the boxes (as in the
            challenge's sixth place).
        findings: weight of the binary cross-entropy of an auxiliary head, which exists only in
            training: whether an image is abnormal, and the 14 findings of NIH and of VinBigData
            (`datasets.findings.FINDINGS`), each where it is known.
        label_smoothing: of the image score's targets, and of a classification network's labels
            that do not exclude each other, so that scores do not saturate on images the network
            has memorised.
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
    box: Literal["giou", "smooth_l1"] = "giou"
    box_weight: Share = 1.0
    image: Share = 1.0
    edges: Share = 0.0
    findings: Share = 0.0
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class Optimizer(Section):
    """The optimizer, its learning rate schedule, and the moving average of weights that is saved.

    Attributes:
        kind: `adamw`, or `sgd` with momentum.
        learning_rate: of decoder and heads, after the warm-up.
        encoder_learning_rate: of a pretrained encoder; 0 freezes it with its normalisation.
        freeze_batch_norm: whether the normalisation of a pretrained encoder is frozen, statistics,
            scale and offset, as is usual for the small batches of detectors.
        schedule: after the warm-up, `cosine` falls to 0 at the last step, `constant` stays, `step`
            is multiplied by `step_factor` every `step_epochs` epochs.
        step_epochs, step_factor: of that schedule.
        warmup: fraction of all steps over which the rate rises linearly from 0.
        momentum: of `sgd`.
        weight_decay: decoupled, at `learning_rate` for the encoder too; not on biases and
            normalisation. 0 makes AdamW Adam.
        clip_norm: the largest global norm of the gradient; 0 does not clip.
        ema: momentum of the moving average of the weights; 0 saves the last weights.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0, le=_MOST_RATE)
    encoder_learning_rate: float = Field(3e-4, ge=0, le=_MOST_RATE)
    freeze_batch_norm: bool = False
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    step_epochs: int | None = Field(None, gt=0, le=MOST_EPOCHS)
    step_factor: float = Field(0.1, gt=0, le=1)
    warmup: float = Field(0.05, ge=0, lt=1)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0, le=_MOST_RATE)
    clip_norm: float = Field(5.0, ge=0, le=_MOST_WEIGHT)
    ema: float = Field(0.998, ge=0, lt=1)

    @model_validator(mode="after")
    def _check_steps(self) -> "Optimizer":
        if (self.schedule == "step") != (self.step_epochs is not None):
            raise ValueError("schedule = step needs step_epochs, and step_epochs that schedule")
        return self


class Stage(Section):
    """A stage of a run: some epochs at one image size.

    Attributes:
        epochs: their number.
        image_size: side of the square, in pixels.
        source_weights: replace `data.source_weights`; 0 leaves a data set out.
    """

    epochs: int = Field(gt=0, le=MOST_EPOCHS)
    image_size: int = Field(gt=0, le=MOST_SIDE, multiple_of=32)
    source_weights: dict[str, Share] = {}


class Validation(Section):
    """Scoring on a held-out fold during training, and early stopping.

    Attributes:
        fold: the held-out fold; None for no scoring.
        every: epochs between scores; the last epoch is always scored.
        batch_size: of scoring, on which the loss depends where overlap is summed over the batch;
            the recipe's where None.
        patience: training stops when the RSNA metric (of a classification network the mean AUC
            over its labels, of a detector of several findings the mean average precision) has not
            risen for this number of scores, and
            the best weights are saved; 0 trains to the end and saves the last. Above 0 the fold has
            selected the weights, which is registered in the manifest.
    """

    fold: int | None = Field(None, ge=0)
    every: int = Field(2, gt=0, le=MOST_EPOCHS)
    batch_size: int | None = Field(None, gt=0, le=MOST_BATCH)
    patience: int = Field(0, ge=0, le=MOST_EPOCHS)

    @model_validator(mode="after")
    def _check_patience(self) -> "Validation":
        if self.patience and self.fold is None:
            raise ValueError("patience needs validation.fold")
        return self


class Distillation(Section):
    """Knowledge distillation from an ensemble's masks and image scores.

    Attributes:
        teacher: the ensemble's name in the manifest.
        share: the teacher's part of a labelled image's target, 0-1; the rest is the readers'. An
            unlabelled image has the teacher's target alone.
    """

    teacher: str
    share: float = Field(0.7, gt=0, le=1)
