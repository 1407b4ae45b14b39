"""Groups, telling cases and sweeps: each equals what counting by hand on the images gives."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lungbox.boxes import OperatingPoint, geometry
from lungbox.constants import RSNA_CLASSES
from lungbox.evaluation.groups import all_images, example_cases, groups, recall_by_size
from lungbox.evaluation.operating_point import image_scores, mix_weights
from lungbox.evaluation.scores import score_predictions
from lungbox.evaluation.sweep import sweeps
from lungbox.metrics import auc, rsna_score
from tests.evaluation.drawn import drawn_maps

KINDS = ("class", "view", "sex", "age", "contrast", "boxes")
POINT = OperatingPoint(threshold=0.35, min_area=0.01, shrink=0.0, gate=0.3)


@pytest.fixture(scope="module")
def predictions():
    return drawn_maps()


@pytest.fixture(scope="module")
def scored(predictions):
    return score_predictions(predictions, (POINT,) * len(predictions.dataset))


def subset(predictions, rows):
    images = tuple(predictions.dataset.images[row] for row in rows)
    dataset = replace(predictions.dataset, images=images)
    return replace(
        predictions,
        dataset=dataset,
        opacity=predictions.opacity[rows],
        scores=predictions.scores[rows],
    )


def test_a_group_is_what_its_images_alone_come_to(predictions, scored):
    of_group = {(group.by, group.name): group for group in groups(scored)}
    rows = [row for row, image in enumerate(predictions.dataset.images) if image.view == "PA"]
    alone = score_predictions(subset(predictions, rows), (POINT,) * len(rows))
    group = of_group["view", "PA"]
    assert (group.images, group.positives) == (len(rows), int((alone.outcomes.truths > 0).sum()))
    assert group.metric.value == pytest.approx(rsna_score(alone.outcomes.parts))
    assert group.auc.value == pytest.approx(auc(alone.outcomes.truths > 0, alone.image_scores))
    negative = alone.outcomes.truths == 0
    rate = (alone.outcomes.boxes[negative] > 0).mean()
    assert group.false_positives.value == pytest.approx(rate)
    assert group.view_auc.value == 0.5  # all of one view


@given(
    ages=st.lists(st.integers(-1, 999) | st.integers(115, 125), min_size=90, max_size=90),
    views=st.lists(st.sampled_from(["AP", "PA", "", "LL"]), min_size=90, max_size=90),
    sexes=st.lists(st.sampled_from(["F", "M", "", "O"]), min_size=90, max_size=90),
    classes=st.lists(st.sampled_from([*RSNA_CLASSES, ""]), min_size=90, max_size=90),
)
@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_every_image_is_in_exactly_one_group_of_each_kind(scored, ages, views, sexes, classes):
    images = tuple(
        replace(image, age=age, view=view, sex=sex, category=category)
        for image, age, view, sex, category in zip(
            scored.dataset.images, ages, views, sexes, classes, strict=True
        )
    )
    found = groups(replace(scored, dataset=replace(scored.dataset, images=images)))
    by = {kind: [group for group in found if group.by == kind] for kind in KINDS}
    for of_kind in by.values():
        assert len({group.name for group in of_kind}) == len(of_kind)
        # One group alone would say what the whole says, and is left out.
        assert sum(group.images for group in of_kind) == (90 if of_kind else 0)
    unknown = {group.by: group.images for group in found if group.name == "unknown"}
    expected = {
        "age": sum(not 0 <= age <= 120 for age in ages),
        "view": views.count(""),
        "sex": 90 - sexes.count("F") - sexes.count("M"),
        "class": classes.count(""),
    }
    for kind, count in expected.items():
        assert unknown.get(kind, 0) == (count if by[kind] else 0)


def test_ages_that_cannot_be_true_are_a_group_of_their_own(scored):
    ages = [0, 17, 18, 39, 40, 59, 60, 74, 75, 120, 121, 412, -1] + [50] * 77
    images = scored.dataset.images
    aged = tuple(replace(image, age=age) for image, age in zip(images, ages, strict=True))
    found = groups(replace(scored, dataset=replace(scored.dataset, images=aged)))
    assert [(group.name, group.images) for group in found if group.by == "age"] == [
        ("0 to 17", 2), ("18 to 39", 2), ("40 to 59", 79), ("60 to 74", 2), ("75 and more", 2),
        ("unknown", 3),
    ]  # fmt: skip


def test_what_a_group_cannot_have_is_not_a_number(scored):
    normal = next(group for group in groups(scored) if group.name == "Normal")
    assert normal.positives == 0
    assert math.isnan(normal.metric.value)
    assert math.isnan(normal.auc.value)
    assert str(normal.recall) == "–"
    assert normal.false_positives.value >= 0


def test_a_data_set_is_a_group_with_a_heading(scored):
    group = all_images(scored, "data set", "RSNA")
    assert group.images == 90
    assert group.under("RSNA").by == "RSNA, data set"


def test_recall_by_size_counts_boxes_of_that_size(predictions, scored):
    """12 by 14 of 32 by 32 pixels is 16 %: all boxes are in the last band, then in the first."""
    *smaller, largest = recall_by_size(scored)
    assert all(math.isnan(figure.value) and figure.images == 0 for figure in smaller)
    assert largest.images == 30
    assert largest.value == pytest.approx(scored.outcomes.recalled.sum() / 30)
    tiny = [
        replace(
            image, boxes=np.concatenate([image.boxes, geometry.as_boxes([(0, 0, 2, 3)])]), labels=()
        )
        for image in predictions.dataset.images
    ]
    both = replace(predictions, dataset=replace(predictions.dataset, images=tuple(tiny)))
    first, *_, last = recall_by_size(score_predictions(both, (POINT,) * 90))
    assert (first.images, first.value) == (90, 0)
    assert last.value == largest.value


def test_telling_cases_are_of_their_kind_and_in_order(scored):
    cases = example_cases(scored, each=6)
    outcomes, scores = scored.outcomes, scored.image_scores
    positive, boxed, parts = outcomes.truths > 0, outcomes.boxes > 0, outcomes.parts
    assert set(np.flatnonzero(positive & ~boxed)) >= set(cases.missed)
    assert set(np.flatnonzero(~positive & boxed)) >= set(cases.false_positives)
    assert len(cases.missed) > 0
    assert len(cases.false_positives) > 0
    assert np.all(np.diff(scores[cases.missed]) >= 0)
    assert np.all(np.diff(scores[cases.false_positives]) <= 0)
    assert len(cases.best) == len(cases.worst) == 6
    assert np.all(np.diff(parts[cases.best]) <= 0)
    assert parts[cases.best[0]] == parts[positive].max()
    assert np.all(np.diff(parts[cases.worst]) >= 0)
    assert parts[cases.worst[0]] == parts[positive & boxed].min()


def test_a_sweep_is_what_each_point_gives(predictions):
    """The curves find regions once; point by point gives the same."""
    count, mix = len(predictions.dataset), mix_weights(predictions.dataset)
    curves = sweeps(predictions, POINT)
    assert [curve.key for curve in curves] == ["gate", "threshold", "min_area", "shrink"]
    for curve in curves:
        for place in range(0, len(curve.values), 5):
            point = replace(POINT, **{curve.key: float(curve.values[place])})
            parts = image_scores(predictions, [point] * count)
            assert curve.raw[place].value == pytest.approx(rsna_score(parts))
            assert curve.mix[place].value == pytest.approx(rsna_score(parts, mix))
