"""Submissions to challenges: written, read, checked. RSNA's format is what `predict` writes."""

from lungbox.submission import vinbigdata
from lungbox.submission.rsna import (
    HEADER,
    SubmittedBoxes,
    parse,
    prediction_string,
    read_ids,
    read_submission,
    rows,
)
from lungbox.submission.table import RowError, StringError, SubmissionError

__all__ = [
    "HEADER",
    "RowError",
    "StringError",
    "SubmissionError",
    "SubmittedBoxes",
    "parse",
    "prediction_string",
    "read_ids",
    "read_submission",
    "rows",
    "vinbigdata",
]
