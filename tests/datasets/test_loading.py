"""Labels joined to files: boxes in the file's own pixels, issues listed, never lost."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lungbox import datasets
from lungbox.boxes import geometry
from lungbox.datasets import Dataset, DatasetError, LabelledRadiograph
from lungbox.datasets.phantom import draw, write_rsna


@pytest.fixture
def folder(tmp_path):
    write_rsna(tmp_path / "rsna", count=10, size=128)
    return tmp_path


def test_boxes_are_in_pixels_of_the_file(folder):
    loaded = datasets.load(folder)
    assert len(loaded) == 10
    for number, image in enumerate(loaded.images):
        drawn = draw(128, number % 3, np.random.default_rng((0, number)))
        assert image.size == (128, 128)
        assert np.allclose(image.boxes, drawn.boxes, atol=1e-3)
        assert image.target == (number % 3 > 0)
        assert image.fold == number % 5
        assert image.view == ("AP", "PA")[number % 2]


def test_the_folder_itself_or_the_one_above(folder):
    assert len(datasets.load(folder / "rsna")) == len(datasets.load(folder)) == 10


def test_folds(folder):
    chosen = datasets.load(folder).folds([0, 3])
    assert [image.fold for image in chosen.images] == [0, 3, 0, 3]


def test_a_label_without_image_and_a_broken_image_are_issues(folder):
    (folder / "rsna/images/phantom-0003.png").unlink()
    (folder / "rsna/images/phantom-0004.png").write_bytes(b"")
    loaded = datasets.load(folder)
    assert len(loaded) == 8
    assert "phantom-0003: labelled, but there is no image" in loaded.issues[0]
    assert "phantom-0004.png: the file is empty" in loaded.issues[1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: shutil.rmtree(f / "rsna"), "holds no known data set"),
        (lambda f: shutil.rmtree(f / "rsna/images"), "has no folder of images"),
        (
            lambda f: (f / "rsna/stage_2_train_labels.csv").write_text("a,b\n"),
            "no column patientId",
        ),
        (lambda f: [p.unlink() for p in (f / "rsna/images").iterdir()], "none of the images"),
    ],
)
def test_what_is_missing_is_named(folder, spoil, message):
    spoil(folder)
    with pytest.raises(DatasetError, match=message):
        datasets.load(folder)


def test_no_folder(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        datasets.load(tmp_path / "none")


def test_siim_boxes_are_scaled_from_the_originals_size(tmp_path):
    from PIL import Image

    (tmp_path / "images").mkdir()
    for name in ("a", "b", "c"):
        Image.new("L", (256, 256)).save(tmp_path / f"images/{name}.jpg")
    (tmp_path / "images.csv").write_text(
        "image_id,class,Target,fold,group,width,height\n"
        "a,Typical Appearance,1,0,p,4000,2000\n"
        "b,Negative for Pneumonia,0,1,q,100,100\n"
        "c,Indeterminate Appearance,0,1,q,100,100\n"
    )
    (tmp_path / "boxes.csv").write_text("image_id,x,y,width,height\na,1000,500,2000,1000\n")
    loaded = datasets.load(tmp_path)
    a, b, c = loaded.images
    assert a.boxes.tolist() == [[64, 64, 192, 192]]
    assert [image.uncertain for image in (a, b, c)] == [False, False, True]
    assert not b.target


def labelled(source="a", names=("Mass",), **changes):
    facts = {"identity": "i", "path": Path("i.png"), "size": (96, 64), "target": True}
    boxes = np.tile(np.array([[1, 2, 30, 40]], np.float32), (len(names), 1))
    facts |= {"category": "", "patient": "p", "boxes": boxes, "labels": names, "source": source}
    return LabelledRadiograph(**facts | changes)


def test_classes_of_two_data_sets_are_merged_in_order():
    one = Dataset((labelled(),), class_names=("Nodule", "Mass"))
    other = Dataset((labelled("b"),), class_names=("Effusion", "Nodule"))
    both = one + other
    assert both.class_names == ("Nodule", "Mass", "Effusion")
    assert both.sources == {"a", "b"}
    assert both.folds([0]).class_names == both.of_source("a").class_names == both.class_names


def test_a_box_without_label_and_a_label_without_box():
    assert labelled(labels=()).labels == ("lung opacity",)
    with pytest.raises(ValueError, match="i: 1 labels, 2 boxes"):
        labelled(names=("x", "y"), labels=("x",))


def test_the_challenge_is_the_data_set_with_a_mix():
    images = (labelled("siim"), labelled("plain"), labelled("rsna"), labelled("unknown"))
    found = datasets.challenge_images(Dataset(images))
    assert [image.source for image in found.images] == ["rsna"]
    assert sum(datasets.mix_of(found).values()) == pytest.approx(1)
    others = Dataset(images[:2] + images[3:])
    assert datasets.challenge_images(others).images == ()
    assert datasets.mix_of(others) == {}


def test_every_data_set_is_registered():
    assert list(datasets.INFOS) == ["rsna", "siim", "plain", "unlabelled"]
    for info in datasets.INFOS.values():
        assert {*info.negatives.values(), *info.mix} <= set(info.categories)
    assert datasets.info_of("mine").title == "mine"


@pytest.mark.real
def test_the_real_data(shared):
    loaded = datasets.load(shared)
    assert Counter(image.source for image in loaded.images) == {"rsna": 2227, "siim": 5574}
    assert sum(image.uncertain for image in loaded.images) == 266
    assert sum(image.target for image in loaded.images if image.source == "rsna") == 914
    assert sum(len(image.boxes) for image in loaded.images if image.source == "siim") == 6994
    for image in loaded.images:
        assert (geometry.clip(image.boxes, image.size) - image.boxes).max(initial=0) < 1
    patients = {}
    for image in loaded.images:
        patients.setdefault((image.source, image.patient), set()).add(image.fold)
    assert all(len(folds) == 1 for folds in patients.values())
