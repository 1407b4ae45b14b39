"""What a manifest's entries have in common; what is known of an ensemble in other precisions."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from lungbox.boxes import OperatingPoint
from lungbox.weights.content import Format

# The type a network computes in; weights are float32.
Precision = Literal["float32", "bfloat16", "int8"]
# Those that are faster than float32 on processors that have them, the fastest first.
FASTER: tuple[Precision, ...] = ("int8", "bfloat16")
# The largest change of the RSNA metric that another precision may make and be chosen by itself.
LARGEST_CHANGE = 0.003
# The least share of images that keep their number of boxes, and the fewest to look at.
LEAST_SAME, LEAST_IMAGES = 0.95, 100
Source = Annotated[str, Field(pattern=r"^(file|https?|gdrive|hf|kaggle):.")]


class Entry(BaseModel):
    """Knows its keys, and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Checked(Entry):
    """What another precision makes of an ensemble's boxes, on images nobody learned from.

    Attributes:
        metric_change: of the RSNA metric, on the images as they are, at the ensemble's own
            operating point.
        same_count: the share of images with as many boxes.
        images: how many there were.
    """

    metric_change: float
    same_count: float = Field(ge=0, le=1)
    images: int = Field(ge=0)

    @property
    def passed(self) -> bool:
        """Whether it may be chosen without being asked for."""
        return (
            abs(self.metric_change) <= LARGEST_CHANGE
            and self.same_count >= LEAST_SAME
            and self.images >= LEAST_IMAGES
        )


class Quantised(Checked):
    """An ensemble as one INT8 model, a file of its own.

    Attributes:
        sha256: of the file.
        bytes: its size.
        sources: see `manifest.Weights`.
        calibrated_on: the images its ranges come from, in words.
        in_float32: the kinds of operations that are not quantised.
    """

    # As weight files have them, for whoever fetches both.
    format: ClassVar[Format] = "safetensors"
    recipe: ClassVar[str] = ""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: int = Field(gt=0)
    sources: tuple[Source, ...]
    calibrated_on: str = ""
    in_float32: tuple[str, ...] = ()


class Precisions(Entry):
    """What is known of an ensemble in other precisions than float32.

    Attributes:
        ensemble: its name when that was found out.
        checked_on: the images, in words.
        checked_at: the operating point the figures are of; None where nobody has written it down.
        bfloat16: None where nobody could look.
        int8: None where there is none.
    """

    ensemble: str
    checked_on: str = ""
    checked_at: OperatingPoint | None = None
    bfloat16: Checked | None = None
    int8: Quantised | None = None

    @property
    def int8_name(self) -> str:
        """What its INT8 model is called."""
        return f"{self.ensemble}-int8" + (f"-{self.int8.sha256[:8]}" if self.int8 else "")

    def passed(self) -> tuple[Precision, ...]:
        """Those that may be chosen without being asked for, the fastest first; float32 always."""
        return (*(name for name in FASTER if (found := self.of(name)) and found.passed), "float32")

    def of(self, precision: Precision) -> Checked | None:
        """What was found out about a precision, where anything was."""
        return {"int8": self.int8, "bfloat16": self.bfloat16, "float32": None}[precision]
