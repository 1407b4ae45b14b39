"""What networks trained fold by fold say of the images that each has not seen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from lungbox import datasets
from lungbox.common.files import atomic_write
from lungbox.evaluation.evaluator import predict_with_progress
from lungbox.inference.predictor import load


def save_out_of_fold_predictions(
    names: Sequence[str], data: Path, path: Path, console: Console
) -> Path:
    """Predict fold K of `data` by the K-th ensemble, and keep all of it in one file.

    Args:
        names: an ensemble for each fold, trained on the others.
        data: a folder `datasets.load` knows.
        path: an `.npz` with `identity`, `source` and `fold` `(N,)`, `opacity` `(N, h, w)` uint8
            (255 for certain) and `score` `(N,)` float32.
        console: where progress is shown.
    """
    found = datasets.load(data)
    parts = []
    for fold, name in enumerate(names):
        of_fold = found.folds([fold])
        if of_fold.images:
            predictions = predict_with_progress(
                of_fold, load(name, batch_size=8, precision="float32").engine, console
            )
            parts.append((fold, predictions))
    images = [image for _, predictions in parts for image in predictions.dataset.images]
    with atomic_write(path, "wb") as file:
        np.savez_compressed(
            file,
            identity=np.array([image.identity for image in images]),
            source=np.array([image.source for image in images]),
            fold=np.concatenate(
                [np.full(len(predictions.dataset), fold) for fold, predictions in parts]
            ),
            opacity=np.concatenate([predictions.opacity for _, predictions in parts]),
            score=np.concatenate([predictions.scores for _, predictions in parts]),
        )
    return path
