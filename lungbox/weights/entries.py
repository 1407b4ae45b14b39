"""The entries of a manifest: weight files, ensembles, and checks of other precisions."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lungbox.boxes import OperatingPoint
from lungbox.constants import (
    CLASS_NAMES,
    OPACITY,
    REFERENCE_MIN_BOX_AREA,
    REFERENCE_SHRINK,
    RSNA_SIZE,
)
from lungbox.errors import suggest
from lungbox.radiograph.prepare import Preparation
from lungbox.weights.calibration import Calibration
from lungbox.weights.entry import Entry, ManifestError
from lungbox.weights.formats import Format
from lungbox.weights.points import NamedPoint, PointEntry
from lungbox.weights.views import all_views

# Names become names of files and folders.
NAMED = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"
_Name = Annotated[str, Field(pattern=NAMED)]
DEFAULT = "default"

# What an ensemble's image score is made of.
ImageScore = Literal["head", "mask"]
# The type a network computes in; weights are float32.
Precision = Literal["float32", "bfloat16", "int8"]
# Those that are faster than float32 on processors that have them, the fastest first.
REDUCED_PRECISIONS: tuple[Precision, ...] = ("int8", "bfloat16")
# The largest change of the RSNA metric with which another precision is chosen automatically.
MAX_METRIC_CHANGE = 0.003
# The smallest share of images that keep their number of boxes, and the fewest images to check.
MIN_SAME_COUNT, MIN_IMAGES = 0.95, 100
Source = Annotated[str, Field(pattern=r"^(file|https?|gdrive|hf|kaggle):.")]


class PrecisionCheck(Entry):
    """How another precision changes an ensemble's boxes, on held-out images.

    Attributes:
        metric_change: of the RSNA metric (unweighted), at the ensemble's own operating point.
        same_count: the share of images with as many boxes.
        images: how many there were.

    Example:
        >>> PrecisionCheck(metric_change=0.0005, same_count=0.99, images=446).passed
        True
        >>> PrecisionCheck(metric_change=-0.0040, same_count=0.99, images=446).passed
        False
    """

    metric_change: float
    same_count: float = Field(ge=0, le=1)
    images: int = Field(ge=0)

    @property
    def passed(self) -> bool:
        """Whether it may be chosen automatically."""
        return (
            abs(self.metric_change) <= MAX_METRIC_CHANGE
            and self.same_count >= MIN_SAME_COUNT
            and self.images >= MIN_IMAGES
        )


class Int8Entry(PrecisionCheck):
    """An ensemble's INT8 model, a file of its own.

    Attributes:
        sha256: of the file.
        bytes: its size.
        sources: see `Weights`.
        calibrated_on: the images its activation ranges come from, in words.
        in_float32: the types of operations that are not quantised.
    """

    # As `Weights` has them.
    format: ClassVar[Format] = "safetensors"
    recipe: ClassVar[str] = ""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: int = Field(gt=0)
    sources: tuple[Source, ...]
    calibrated_on: str = ""
    in_float32: tuple[str, ...] = ()


class Precisions(Entry):
    """Checks of an ensemble in other precisions than float32.

    Attributes:
        ensemble: its name when it was checked.
        checked_on: the images, in words.
        checked_at: the operating point of the check; None where it was not recorded.
        bfloat16: None where it was not checked.
        int8: None where there is no INT8 model.
    """

    ensemble: str
    checked_on: str = ""
    checked_at: OperatingPoint | None = None
    bfloat16: PrecisionCheck | None = None
    int8: Int8Entry | None = None

    @property
    def int8_name(self) -> str:
        """Name of its INT8 model."""
        return f"{self.ensemble}-int8" + (f"-{self.int8.sha256[:8]}" if self.int8 else "")

    def passed(self) -> tuple[Precision, ...]:
        """Precisions that may be chosen automatically, the fastest first; float32 always."""
        return (
            *(name for name in REDUCED_PRECISIONS if (found := self.of(name)) and found.passed),
            "float32",
        )

    def of(self, precision: Precision) -> PrecisionCheck | None:
        """The check of a precision, where there was one."""
        return {"int8": self.int8, "bfloat16": self.bfloat16, "float32": None}[precision]


class Weights(Entry):
    """One weight file.

    Attributes:
        architecture: the registered network it belongs to.
        image_size: side of the square the network was trained on, in pixels.
        sha256: of the file, in hexadecimal; where it is empty, that of the first download is
            pinned.
        bytes: its size; 0 where it is unknown.
        format: `safetensors`, or `keras2` for a published `.h5` file.
        sources: where to download it, in order of preference. `file:NAME` is beside the manifest.
        recipe: the training recipe, and options of `train` that override it.
        trained_on: training data and folds, in words.
        folds: the training folds, by number; None where they are unknown.
        selected_on: the fold on which the run's best epoch was selected, where there was one.
        kind: of the network.
        class_names: of its boxes, mask channels after the background, or image-level
            probabilities, in their order.
        options: of the network's function, those that have an effect in prediction.
        licence: the terms of use.
    """

    architecture: str
    image_size: int = Field(gt=0, multiple_of=32)
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    bytes: int = Field(0, ge=0)
    format: Format = "safetensors"
    sources: tuple[Source, ...] = ()
    recipe: str = ""
    trained_on: str = ""
    folds: tuple[int, ...] | None = None
    selected_on: int | None = None
    kind: Literal["segmentation", "detection", "classification"] = "segmentation"
    class_names: tuple[str, ...] = Field(CLASS_NAMES[OPACITY:], min_length=1)
    options: dict[str, float] = Field({})
    licence: str = ""


class Ensemble(PointEntry):
    """Weight files that predict together, and how their prediction becomes boxes.

    Its own keys `rule` to `upper_gate` are its default operating point.

    Attributes:
        members: names of weight files, of networks of any kind.
        weights: theirs in the mean, in that order; equal where empty.
        gates: the members whose image scores are averaged to the ensemble's; all where empty.
        image_score: what the image score is made of: each member's image head (`head`), or of
            segmentation networks the mask (`mask`), the mean of the 5 % of its pixels with the
            highest probability of opacity.
        preparation: how a radiograph becomes its members' input, see `radiograph.prepare`.
        flip: whether each radiograph is also read mirrored, at twice the cost (test-time
            augmentation): masks and scores are averaged, boxes fused.
        views: further views of each radiograph, which are averaged in the same way, at the cost of
            one reading each: `flip`, `invert`, `zoom 1.1`, or `flip + zoom 1.1`.
        calibration: of the image score that is written; gates are compared with the score before.
        operating_points: others than the default, by name.
        note: where the operating point comes from, or how to train what is not published.
    """

    members: tuple[str, ...] = Field(min_length=1)
    weights: tuple[Annotated[float, Field(gt=0)], ...] = ()
    gates: tuple[str, ...] = ()
    image_score: ImageScore = "head"
    preparation: Preparation = "equalised"
    flip: bool = False
    views: tuple[str, ...] = ()
    calibration: Calibration | None = None
    operating_points: dict[_Name, NamedPoint] = Field({})
    note: str = ""

    @model_validator(mode="after")
    def _one_weight_a_member(self) -> "Ensemble":
        if self.weights and len(self.weights) != len(self.members):
            raise ValueError(f"{len(self.weights)} weights for {len(self.members)} members")
        if others := set(self.gates) - set(self.members):
            raise ValueError(f"its gate {min(others)} is not among its members")
        all_views(self.flip, self.views)  # raises where one is none
        return self

    @classmethod
    def alone(
        cls, member: str, *, reference: bool, preparation: Preparation, note: str = ""
    ) -> "Ensemble":
        """The ensemble of one weight file.

        Args:
            member: its name.
            reference: whether its network is the reference system's, whose box rule it gets then.
            preparation: see `radiograph.prepare`.
            note: see `Ensemble`.
        """
        if not reference:
            return cls(members=(member,), preparation=preparation, note=note)
        return cls(
            members=(member,),
            preparation=preparation,
            compatibility="reference",
            min_area=REFERENCE_MIN_BOX_AREA / RSNA_SIZE**2,
            shrink=REFERENCE_SHRINK,
            note=note,
        )

    @property
    def normalized_weights(self) -> tuple[float, ...]:
        """The members' shares of the average; they sum to 1."""
        weights = self.weights or (1.0,) * len(self.members)
        return tuple(weight / sum(weights) for weight in weights)

    def operating_point(self, name: str = "") -> OperatingPoint:
        """The operating point called `name`; the default one where empty.

        Raises:
            ManifestError: there is none; the nearest is named.
        """
        if not name or (name == DEFAULT and DEFAULT not in self.operating_points):
            return self.point
        if name not in self.operating_points:
            known = (DEFAULT, *self.operating_points)
            raise ManifestError(f"no operating point is called {name}; {suggest(name, known)}")
        return self.operating_points[name].point

    def settings(
        self,
        operating_point: str = "",
        gate: float | None = None,
        prevalence: float | None = None,
    ) -> tuple[OperatingPoint, Calibration | None]:
        """An operating point with the calibration of the image scores that are written.

        The point's gate is compared with image scores before calibration.

        Args:
            operating_point: its name; the default one where empty.
            gate: replaces its gate, on the scale of the scores that are written; None to keep it.
            prevalence: share of images with an opacity that written scores are converted to; None
                for that of the calibration. It leaves the operating point's own gate as it is.

        Raises:
            ManifestError: there is no such operating point, a value is not in its range, or there
                is no calibration to convert.
        """
        point, calibration = self.operating_point(operating_point), self.calibration
        if prevalence is not None:
            if not 0 < prevalence < 1:
                raise ManifestError(
                    f"prevalence {prevalence:g}: give a share above 0 and below 1, as in 0.05"
                )
            if calibration is None or calibration.prevalence is None:
                raise ManifestError(
                    "image scores are converted to another prevalence only where the ensemble's "
                    "calibration states its own, and this ensemble's does not; make one: python -m "
                    "lungbox tune"
                )
            calibration = calibration.at_prevalence(prevalence)
        if gate is not None:
            if not 0 <= gate <= 1:
                raise ManifestError(f"gate {gate:g}: give an image score, from 0 to 1")
            point = replace(point, gate=calibration.inverse(gate) if calibration else gate)
        return point, calibration


# A file with sources and a hash.
File = Weights | Int8Entry


class Manifest(Entry):
    """What a manifest file holds.

    Attributes:
        weights: weight files by name.
        ensembles: by name.
        precisions: checks of ensembles in other precisions, by `key_of`.

    Example:
        >>> lite0 = Weights(architecture="unet_lite0", image_size=256, folds=(1, 2, 3, 4))
        >>> manifest = Manifest(weights={"lite0": lite0})
        >>> manifest.file("lite0").image_size
        256
        >>> sorted(manifest.training_folds("lite0"))
        [1, 2, 3, 4]
    """

    weights: dict[_Name, Weights] = Field({})
    ensembles: dict[_Name, Ensemble] = Field({})
    precisions: dict[_Name, Precisions] = Field({})

    def file(self, name: str) -> Weights:
        """The weight file called `name`.

        Raises:
            ManifestError: there is none; the nearest name is suggested.
        """
        if name not in self.weights:
            raise ManifestError(f"no weights are called {name}; {suggest(name, self.weights)}")
        return self.weights[name]

    def training_folds(self, name: str) -> frozenset[int] | None:
        """The folds that a weight file was trained or selected on; None where they are recorded
        neither for it nor for the same file under another name."""
        weights = self.file(name)
        twins = [other for other in self.weights.values() if other.sha256 == weights.sha256 != ""]
        known = [other for other in (weights, *twins) if other.folds is not None]
        selected = {other.selected_on for other in known if other.selected_on is not None}
        folds = {fold for other in known for fold in other.folds or ()}
        return frozenset(folds | selected) if known else None

    def ensemble(self, name: str) -> Ensemble:
        """The ensemble called `name`.

        Raises:
            ManifestError: there is none; the nearest name is suggested.
        """
        if name not in self.ensembles:
            raise ManifestError(f"no ensemble is called {name}; {suggest(name, self.ensembles)}")
        return self.ensembles[name]

    def class_names(self, ensemble: str) -> tuple[str, ...]:
        """The classes of an ensemble's boxes, by index; empty where no member predicts boxes.

        Raises:
            ManifestError: it, or a member of it, is not known.
        """
        members = (self.file(member) for member in self.ensemble(ensemble).members)
        return next((one.class_names for one in members if one.kind != "classification"), ())
