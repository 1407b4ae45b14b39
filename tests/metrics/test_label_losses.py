"""Losses of labels of which only some are known, against plain loops."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungbox.constants import UNKNOWN
from lungbox.metrics.label_losses import KnownBinaryCrossentropy, PossibleClassesCrossentropy


@st.composite
def possible(draw):
    """Targets and probabilities of three classes for four images, one of which nothing is known
    of."""
    rows = st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)])
    targets = [draw(rows) for _ in range(3)] + [(UNKNOWN,) * 3]
    logits = draw(st.lists(st.floats(-6, 6), min_size=12, max_size=12))
    powers = np.exp(np.reshape(logits, (4, 3)))
    return np.array(targets, np.float32), powers / powers.sum(axis=1, keepdims=True)


@given(possible())
def test_possible_classes(drawn):
    targets, probabilities = drawn
    found = PossibleClassesCrossentropy(reduction=None)(targets, probabilities.astype(np.float32))
    expected = [
        -np.log(sum(p for p, t in zip(row, of_image, strict=True) if t == 1))
        for row, of_image in zip(probabilities[:3], targets[:3], strict=True)
    ]
    assert np.array(found) == pytest.approx([*expected, 0], abs=1e-4)


def test_one_possible_class_is_the_usual_cross_entropy():
    random = np.random.default_rng(0)
    targets = np.eye(3, dtype=np.float32)[random.integers(3, size=16)]
    probabilities = random.dirichlet([1, 1, 1], 16).astype(np.float32)
    usual = keras.losses.CategoricalCrossentropy()(targets, probabilities)
    assert float(PossibleClassesCrossentropy()(targets, probabilities)) == pytest.approx(
        float(usual), rel=1e-5
    )


def test_a_probability_of_0_has_a_finite_loss():
    loss = PossibleClassesCrossentropy()([[1.0, 0.0, 0.0]], [[0.0, 0.5, 0.5]])
    assert 10 < float(loss) < 20


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_known_labels(smoothing):
    """The mean over an image's known labels, whose targets are moved to 0.5."""
    random = np.random.default_rng(1)
    targets = random.choice([UNKNOWN, 0, 1 / 3, 1], (8, 14)).astype(np.float32)
    targets[5] = UNKNOWN
    probabilities = random.uniform(0.02, 0.98, (8, 14)).astype(np.float32)
    expected = np.zeros(8)
    for row in range(8):
        terms = []
        for target, p in zip(targets[row], probabilities[row].astype(float), strict=True):
            if target != UNKNOWN:
                y = target * (1 - smoothing) + smoothing / 2
                terms.append(-y * np.log(p) - (1 - y) * np.log(1 - p))
        expected[row] = np.mean(terms) if terms else 0
    loss = KnownBinaryCrossentropy(smoothing, reduction=None)
    assert np.array(loss(targets, probabilities)) == pytest.approx(expected, abs=1e-5)
    again = KnownBinaryCrossentropy.from_config(loss.get_config())
    assert again.label_smoothing == smoothing
