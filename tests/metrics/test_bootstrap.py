"""Intervals: the fast way is the slow way, and they cover what they should."""

import math

import numpy as np
import pytest

from lungbox.constants import RSNA_CLASS_MIX, RSNA_CLASSES
from lungbox.metrics import Draws, auc, mix_weights, rsna_score, weighted_auc


@pytest.fixture(scope="module")
def images():
    """Patients with one to three images, a metric's parts and which count, scores and targets."""
    random = np.random.default_rng(1)
    patients = np.repeat([f"p{number}" for number in range(60)], random.integers(1, 4, 60))
    count = len(patients)
    parts = np.where(random.random(count) < 0.3, np.nan, random.random(count))
    return random.permutation(patients), parts, random.random(count), random.random(count) < 0.4


def slowly(patients, compute, resamples):
    """Each resample's rows, drawn one patient after the other."""
    names, member = np.unique(patients, return_inverse=True)
    groups = [np.flatnonzero(member == patient) for patient in range(len(names))]
    random = np.random.default_rng(2024)
    values = []
    for _ in range(resamples):
        drawn = random.integers(len(groups), size=len(groups))
        values.append(compute(np.concatenate([groups[patient] for patient in drawn])))
    return values


def test_a_ratio_is_the_metric_of_the_rows_drawn(images):
    patients, parts, weights, _ = images
    draws = Draws.over(patients, resamples=250)
    shares = np.where(np.isnan(parts), 0, weights)
    found = draws.ratio(shares * np.nan_to_num(parts), shares)
    expected = slowly(patients, lambda rows: rsna_score(parts[rows], weights[rows]), 250)
    assert found.samples == pytest.approx(expected)
    assert found.value == pytest.approx(rsna_score(parts, weights))
    assert found.interval == pytest.approx(np.quantile(expected, [0.025, 0.975]))


def test_any_metric_is_that_of_the_rows_drawn(images):
    patients, _, scores, targets = images
    draws = Draws.over(patients, resamples=250)
    found = draws.estimate(lambda weights: weighted_auc(targets, scores, weights))
    expected = slowly(patients, lambda rows: auc(targets[rows], scores[rows]), 250)
    assert found.samples == pytest.approx(expected)


def test_images_of_a_patient_are_drawn_together():
    """Ten copies of each patient widen the interval to that of the patients alone."""
    values = np.random.default_rng(0).random(40)
    alone = Draws.over(np.arange(40)).ratio(values, np.ones(40))
    copied = Draws.over(np.repeat(np.arange(40), 10)).ratio(np.repeat(values, 10), np.ones(400))
    apart = Draws.over(np.arange(400)).ratio(np.repeat(values, 10), np.ones(400))
    assert copied.interval == pytest.approx(alone.interval)
    assert np.ptp(apart.interval) < 0.5 * np.ptp(copied.interval)


def test_the_interval_covers_the_truth():
    """Of 95 % intervals of means of 100, about 95 in 100 hold the true mean."""
    random = np.random.default_rng(7)
    draws = Draws.over(np.arange(100))
    intervals = [draws.ratio(random.random(100), np.ones(100)).interval for _ in range(200)]
    covered = np.mean([low <= 0.5 <= high for low, high in intervals])
    assert 0.9 <= covered <= 0.99


def test_a_difference_is_paired():
    """A system that is a little better everywhere is better beyond doubt."""
    random = np.random.default_rng(5)
    values = random.random(200)
    better = values + 0.01 + random.normal(0, 0.01, 200)
    draws = Draws.over(np.arange(200))
    first, second = draws.ratio(better, np.ones(200)), draws.ratio(values, np.ones(200))
    low, high = (first - second).interval
    assert (first - second).draws is draws  # so that a difference can be compared in turn
    assert 0.005 < low < (first - second).value < high < 0.015
    assert np.ptp(first.interval) > 0.05
    other = Draws.over(np.arange(200)).ratio(values, np.ones(200))
    with pytest.raises(ValueError, match="same draws"):
        first - other


def test_what_is_not_defined():
    found = Draws.over(["a", "b"]).ratio([0, 0], [0, 0])
    assert math.isnan(found.value)
    assert all(map(math.isnan, found.interval))
    assert math.isnan(Draws.over([]).ratio([], []).value)


def test_every_resample_has_the_mix(images):
    """The weights follow from the rows drawn: those of all rows would give the classes that are
    drawn more often more than their share."""
    patients, parts, _, _ = images
    names = np.array(RSNA_CLASSES)[np.random.default_rng(3).integers(0, 3, len(parts))]
    draws = Draws.over(patients, resamples=250)
    counted = ~np.isnan(parts)
    found = draws.mix_ratio(np.nan_to_num(parts), counted, names, RSNA_CLASS_MIX)
    expected = slowly(
        patients,
        lambda rows: rsna_score(parts[rows], mix_weights(names[rows], RSNA_CLASS_MIX)),
        250,
    )
    assert found.samples == pytest.approx(expected)
    assert found.value == pytest.approx(rsna_score(parts, mix_weights(names, RSNA_CLASS_MIX)))


def test_a_resample_without_a_class_has_no_mix():
    """Of two patients, half of the resamples hold one of them twice."""
    mix = {"a": 0.25, "b": 0.75}
    draws = Draws.over(["p", "q"], resamples=200)
    found = draws.mix_ratio([1, 0], [1, 1], ["a", "b"], mix)
    both = (draws.counts == 1).all(axis=1)
    assert 60 < both.sum() < 140
    assert np.array_equal(~np.isnan(found.samples), both)
    assert found.samples[both] == pytest.approx(0.25)
    assert found.interval == pytest.approx((0.25, 0.25))
    counts = np.array([[2, 1, 1], [0, 3, 0], [1, 0, 5]])
    weights = mix_weights(["a", "a", "b"], mix, counts)
    assert weights[[0, 2]] == pytest.approx(np.array([[1 / 6, 1 / 12, 3 / 4], [1 / 4, 0, 3 / 4]]))
    assert np.isnan(weights[1]).all()


def test_a_mix_gives_classes_their_shares():
    categories = np.repeat([*RSNA_CLASSES, "other"], [5, 2, 9, 4])
    weights = mix_weights(categories, RSNA_CLASS_MIX)
    for category, share in RSNA_CLASS_MIX.items():
        assert weights[categories == category].sum() == pytest.approx(share)
    assert (weights[categories == "other"] == 0).all()
    half = mix_weights(categories, {"Normal": 0.5, "Lung Opacity": 0.5})
    assert half[:5] == pytest.approx(0.1)
    assert (half[5:7] == 0).all()
