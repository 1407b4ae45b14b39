"""Folds: the same mix in each, no patient in two, whatever order the images come in."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungbox import datasets
from lungbox.datasets import Dataset, LabelledRadiograph
from lungbox.datasets.folds import apply_folds, assign, write_folds
from tests.datasets import kaggle

CLASSES = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")


def image(number, patient, category="Normal", view="AP", source="rsna", fold=-1):
    return LabelledRadiograph(
        identity=f"i{number}",
        path=Path(f"i{number}.png"),
        source=source,
        size=(64, 64),
        boxes=np.zeros((0, 4), np.float32),
        target=category == CLASSES[2],
        category=category,
        patient=patient,
        fold=fold,
        view=view,
    )


@st.composite
def data(draw, patients=40, alone=False):
    """Images of patients of one to four images, or of one."""
    sizes = draw(st.lists(st.integers(1, 1 if alone else 4), min_size=1, max_size=patients))
    facts = st.tuples(
        st.sampled_from(CLASSES), st.sampled_from(["AP", "PA", ""]), st.sampled_from(["a", "b"])
    )
    images = []
    for patient, size in enumerate(sizes):
        category, view, source = draw(facts)
        for _ in range(size):
            images.append(image(len(images), f"p{patient}", category, view, source))
    return Dataset(tuple(images))


def folds_of(dataset):
    return {one.identity: one.fold for one in dataset.images}


def spread(images, key, within):
    """The largest difference between folds in the images of any one key."""
    counts = Counter((key(one), one.fold) for one in images)
    names = {key(one) for one in images}
    return (
        max(
            max(counts[name, fold] for fold in range(5))
            - min(counts[name, fold] for fold in range(5))
            for name in names
        )
        <= within
    )


@given(data())
def test_no_patient_is_in_two_folds(dataset):
    folded = assign(dataset)
    found = {(one.source, one.patient, one.fold) for one in folded.images}
    assert len(found) == len({(source, patient) for source, patient, _ in found})
    assert all(one.fold in range(5) for one in folded.images)


@given(data(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_is_of_no_account(dataset, order):
    shuffled = list(dataset.images)
    order.shuffle(shuffled)
    assert folds_of(assign(Dataset(tuple(shuffled)))) == folds_of(assign(dataset))


@given(data(alone=True))
def test_patients_of_one_image_are_spread_to_the_image(dataset):
    images = assign(dataset).images
    assert spread(images, lambda one: (one.source, one.category, one.view), 1)
    assert spread(images, lambda one: (one.source, one.category), 3)


@given(data())
def test_patients_of_several_are_spread_to_the_patient(dataset):
    images = assign(dataset).images
    assert spread(images, lambda one: (one.source, one.category, one.view), 4)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_every_class_has_its_share_in_each_fold(seed):
    """As SIIM has them: one to a dozen images a patient, of mixed views."""
    chance = random.Random(seed)
    images = []
    for patient in range(400):
        category = chance.choices(CLASSES, (33, 44, 23))[0]
        for _ in range(chance.choices((1, 2, 3, 12), (80, 12, 6, 2))[0]):
            images.append(image(len(images), f"p{patient}", category, chance.choice(("AP", "PA"))))
    folded = assign(Dataset(tuple(images))).images
    share = Counter(one.category for one in folded)
    for fold in range(5):
        there = Counter(one.category for one in folded if one.fold == fold)
        assert abs(sum(there.values()) - len(folded) / 5) <= 6
        for category in CLASSES:
            assert abs(there[category] - share[category] / 5) <= 6


@given(data(), st.integers(0, 4))
def test_folds_that_are_given_stay_and_take_their_patients_along(dataset, fold):
    first, *others = dataset.images
    folded = assign(Dataset((replace(first, fold=fold), *others)))
    same = [one for one in folded.images if (one.source, one.patient) == (first.source, "p0")]
    assert {one.fold for one in same} == {fold}


def test_written_folds_are_used(tmp_path):
    rsna = kaggle.write_rsna(tmp_path / "rsna", 10)
    loaded = datasets.load(rsna)
    moved = Dataset(tuple(replace(one, fold=(one.fold + 1) % 5) for one in loaded.images))
    write_folds(moved, rsna / "folds.csv")
    header, first = (rsna / "folds.csv").read_text().splitlines()[:2]
    assert header == "image_id,source,patient,category,fold"
    assert first == f"0000e1f0-0,rsna,0000e1f0-0,Normal,{moved.images[0].fold}"
    again = datasets.load(rsna)
    assert folds_of(again) == folds_of(moved)
    assert again.issues == ()


def test_a_table_above_several_data_sets(tmp_path):
    kaggle.write_rsna(tmp_path / "rsna", 3)
    kaggle.write_siim(tmp_path / "siim", 6)
    (tmp_path / "folds.csv").write_text("image_id,fold\n0001e1f0-1,4\n000000000004,4\n")
    found = folds_of(datasets.load(tmp_path))
    assert found["0001e1f0-1"] == found["000000000004"] == 4


@pytest.mark.parametrize(
    ("table", "issue"),
    [
        ("i0,0\n", "folds.csv: gives no fold to i1 of rsna"),
        ("i0,0\ni1,7\n", "folds.csv, line 3: fold 7 is none of 0-4"),
        ("i0,0\ni1,x\n", "folds.csv, line 3: fold x is none of 0-4"),
        ("i0,0\ni1,1\ni1,2\n", "folds.csv, line 4: i1 has a fold already"),
    ],
)
def test_issues_of_a_table(tmp_path, table, issue):
    (tmp_path / "folds.csv").write_text("image_id,fold\n" + table)
    dataset = Dataset((image(0, "p"), image(1, "q")))
    folded = assign(apply_folds(dataset, tmp_path / "folds.csv"))
    assert any(found.startswith(issue) for found in folded.issues)
    assert all(one.fold in range(5) for one in folded.images)


def test_a_patient_in_two_folds_is_an_issue(tmp_path):
    rsna = kaggle.write_rsna(tmp_path / "rsna", 3)
    (rsna / "images.csv").write_text(
        "patientId,fold,group\n0000e1f0-0,0,p\n0001e1f0-1,1,p\n0002e1f0-2,1,q\n"
    )
    (issue,) = datasets.load(rsna).issues
    assert "patient p of rsna: its images are in folds 0, 1" in issue
