"""`lungbox score`: a submission against the challenge's labels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lungbox.boxes import geometry
from lungbox.datasets.files import read_table
from lungbox.metrics.detection import rsna_image_score, rsna_score
from lungbox.submission import SubmissionError, read_submission


@dataclass(frozen=True)
class Scored:
    """The RSNA metric of a submission, over the images that count."""

    score: float
    counted: int
    images: int


def score(submission: Path, labels: Path) -> Scored:
    """Score a submission against `stage_2_train_labels.csv`, both in the same space.

    Images without truth and without prediction do not count; a labelled image that the
    submission lacks is a fault.

    Raises:
        SubmissionError: the submission is faulty, or an image is missing or unknown.
        DatasetError: the labels cannot be read.
    """
    predictions = read_submission(submission)
    table = read_table(labels, ("patientId", "x", "y", "width", "height", "Target"))
    known = set(table["patientId"])
    if missing := sorted(known - set(predictions)):
        raise SubmissionError(f"{submission}: has no row for {missing[0]}, which {labels} labels")
    if unknown := sorted(set(predictions) - known):
        raise SubmissionError(f"{submission}: names {unknown[0]}, which {labels} does not label")
    scores = []
    for name, group in table.groupby("patientId", sort=True):
        found = group.loc[group["Target"] == 1, ["x", "y", "width", "height"]].to_numpy()
        prediction = predictions[str(name)]
        truth = geometry.from_xywh(found)
        scores.append(rsna_image_score(truth, prediction.boxes, prediction.scores))
    parts = np.array(scores)
    return Scored(rsna_score(parts), int((~np.isnan(parts)).sum()), len(parts))
