"""The base of the tables in a manifest."""

from pydantic import BaseModel, ConfigDict

from lungbox.errors import LungboxError


class ManifestError(LungboxError):
    """The manifest is invalid, or does not know a name; the message says which and what to do."""


class Entry(BaseModel):
    """Base of the manifest's tables: unknown keys are refused, values immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)
