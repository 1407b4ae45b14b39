"""What networks trained fold by fold say of the images that each has not seen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from lungbox import datasets
from lungbox.evaluation.assess import maps_shown
from lungbox.files import replacing
from lungbox.pipeline import load


def keep_out_of_fold(names: Sequence[str], data: Path, path: Path, say: Console) -> Path:
    """Predict fold K of `data` by the K-th ensemble, and keep all of it in one file.

    Args:
        names: an ensemble for each fold, trained on the others.
        data: a folder `datasets.load` knows.
        path: an `.npz` with `identity`, `source` and `fold` `(N,)`, `opacity` `(N, h, w)` uint8
            (255 for certain) and `score` `(N,)` float32.
        say: where progress is shown.
    """
    found = datasets.load(data)
    parts = []
    for fold, name in enumerate(names):
        of_fold = found.folds([fold])
        if of_fold.images:
            maps = maps_shown(of_fold, load(name, batch_size=8, precision="float32").engine, say)
            parts.append((fold, maps))
    images = [image for _, maps in parts for image in maps.dataset.images]
    with replacing(path, "wb") as file:
        np.savez_compressed(
            file,
            identity=np.array([image.identity for image in images]),
            source=np.array([image.source for image in images]),
            fold=np.concatenate([np.full(len(maps.dataset), fold) for fold, maps in parts]),
            opacity=np.concatenate([maps.opacity for _, maps in parts]),
            score=np.concatenate([maps.scores for _, maps in parts]),
        )
    return path
