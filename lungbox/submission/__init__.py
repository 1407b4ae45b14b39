"""Submissions to challenges: written, read, checked. RSNA's format is what `predict` writes."""

from lungbox.submission import vinbigdata
from lungbox.submission.faults import Fault, StringError, SubmissionError
from lungbox.submission.rsna import (
    HEADER,
    Prediction,
    parse,
    prediction_string,
    read_ids,
    read_submission,
    rows,
)

__all__ = [
    "HEADER",
    "Fault",
    "Prediction",
    "StringError",
    "SubmissionError",
    "parse",
    "prediction_string",
    "read_ids",
    "read_submission",
    "rows",
    "vinbigdata",
]
