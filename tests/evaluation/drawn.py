"""Opacity maps with boxes that fit more often than not: what a fair detector would leave."""

from pathlib import Path

import numpy as np

from lungbox.boxes import geometry
from lungbox.constants import RSNA_CLASSES
from lungbox.datasets.types import Dataset, LabelledRadiograph
from lungbox.evaluation.maps import Maps

SIDE = 32


def case(number: int, random: np.random.Generator):
    """An image, its opacity map and its score: right more often than not."""
    positive = number % 3 == 2
    x, y = random.integers(2, 14, 2)
    box = (x, y, x + 12, y + 14)
    opacity = random.random((SIDE, SIDE)) * 0.2
    painted = positive if random.random() < 0.85 else not positive
    if painted:
        shift = random.integers(-2, 3)
        opacity[y + shift : y + 14 + shift, x + shift : x + 12 + shift] = random.uniform(0.4, 0.9)
    score = np.clip(random.normal(0.7 if painted else 0.2, 0.15), 0, 1)
    image = LabelledRadiograph(
        identity=f"{number:03d}",
        path=Path("none"),
        source="rsna",
        size=(SIDE, SIDE),
        boxes=geometry.as_boxes([box] if positive else []),
        target=positive,
        category=RSNA_CLASSES[number % 3],
        patient=f"p{number // 2}",
        view=("AP", "PA")[number % 2],
        sex=("F", "M", "")[number % 3],
        age=number if number % 4 else -1,
        equalised=number % 5 == 0,
    )
    return image, np.round(opacity * 255).astype(np.uint8), np.float32(score)


def drawn_maps(count=90, seed=4):
    """Every third image is positive; two images a patient."""
    random = np.random.default_rng(seed)
    images, opacity, scores = zip(*(case(number, random) for number in range(count)), strict=True)
    return Maps(Dataset(images), np.stack(opacity), np.array(scores))
