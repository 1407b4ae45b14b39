"""What a manifest's entries have in common; what is known of an ensemble in other precisions."""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from lungbox.weights.content import Format


class HasFile(Protocol):
    """A member of an ensemble, as engines know it."""

    @property
    def sha256(self) -> str:
        """Of its file."""

    @property
    def share(self) -> float:
        """Its share of the average."""


# The type a network computes in; weights are float32.
Precision = Literal["float32", "bfloat16", "int8"]
# The largest change of the RSNA metric that another precision may make and be chosen by itself.
LARGEST_CHANGE = 0.003
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
    """

    metric_change: float
    same_count: float = Field(ge=0, le=1)

    @property
    def passed(self) -> bool:
        """Whether it may be chosen without being asked for."""
        return abs(self.metric_change) <= LARGEST_CHANGE


class Quantised(Checked):
    """An ensemble as one network of 8-bit integers, a file of its own.

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
        members: SHA-256 of its members' files when that was found out; it is void with others.
        shares: theirs of the average.
        checked_on: the images, in words.
        bfloat16: None where nobody has looked.
        int8: None where there is none.
    """

    members: tuple[str, ...]
    shares: tuple[float, ...]
    checked_on: str = ""
    bfloat16: Checked | None = None
    int8: Quantised | None = None

    def of(self, members: Iterable["HasFile"]) -> bool:
        """Whether it is these members that it speaks of."""
        found = [(member.sha256, round(member.share, 6)) for member in members]
        shares = (round(share, 6) for share in self.shares)
        return found == list(zip(self.members, shares, strict=False))

    def passed(self) -> tuple[Precision, ...]:
        """Those that may be chosen without being asked for, the fastest first; float32 always."""
        known: dict[Precision, Checked | None] = {"int8": self.int8, "bfloat16": self.bfloat16}
        return (*(name for name, found in known.items() if found and found.passed), "float32")
