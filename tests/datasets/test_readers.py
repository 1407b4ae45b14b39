"""VinBigData's three readers and NIH's kinds: one truth, or none."""

import gzip
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from lungbox import datasets
from lungbox.datasets import nih, vinbigdata
from lungbox.datasets.consensus import opacity_only
from lungbox.datasets.types import DatasetError

# Originals of 400 x 300 pixels (width x height), squashed to files of 64 x 64.
WIDTH, HEIGHT, SIDE = 400, 300, 64
ROWS = [
    # Two readers agree on an opacity, under two names; a third box is one reader's own.
    ("both", "Lung Opacity", "R1", (100, 60, 200, 180)),
    ("both", "Infiltration", "R2", (100, 60, 200, 210)),
    ("both", "Cardiomegaly", "R2", (50, 150, 350, 290)),
    ("both", "Consolidation", "R3", (300, 20, 380, 90)),
    ("alone", "Consolidation", "R1", (10, 10, 90, 90)),
    ("alone", "No finding", "R2", None),
    ("alone", "No finding", "R3", None),
    ("heart", "Cardiomegaly", "R1", (50, 150, 350, 290)),
    ("heart", "Cardiomegaly", "R2", (50, 150, 350, 290)),
    ("heart", "Cardiomegaly", "R3", (60, 150, 350, 290)),
    ("none", "No finding", "R1", None),
    ("none", "No finding", "R2", None),
    ("none", "No finding", "R3", None),
    ("elsewhere", "No finding", "R1", None),
]


def picture(path, side=SIDE):
    """Of pixels of its own: copies of a file are an issue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side), crc32(path.stem.encode()) % 251, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    header = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
    lines = [
        f"{name},{finding},0,{reader},{','.join(map(str, box)) if box else ',,,'}"
        for name, finding, reader, box in ROWS
    ]
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress("\n".join([header, *lines]).encode()))
    names = list(dict.fromkeys(name for name, *_ in ROWS))
    sizes = "".join(f"{name},{HEIGHT},{WIDTH}\n" for name in names)
    (tmp_path / "train_meta.csv").write_text(f"image_id,dim0,dim1\n{sizes}")
    (tmp_path / "images.csv").write_text("image_id,fold\nboth,3\nalone,1\n")
    for name in names[:-1]:
        picture(tmp_path / "images256" / f"{name}.jpg")
    return tmp_path


def by_name(dataset):
    return {image.identity: image for image in dataset.images}


def test_all_boxes_of_all_readers_are_loaded(folder):
    found = datasets.load(folder)
    assert found.class_names == vinbigdata.CLASSES
    assert not found.issues
    images = by_name(found)
    assert list(images) == ["alone", "both", "heart", "none"]
    both = images["both"]
    assert (both.labels[0], both.readers[0], both.source) == ("Lung Opacity", "R1", "vinbigdata")
    assert both.boxes[0].tolist() == pytest.approx([16.0, 12.8, 32.0, 38.4])
    assert len(both.boxes) == 4
    assert len(images["heart"].boxes) == 3  # also where two readers drew the very same
    assert (both.fold, images["alone"].fold) == (3, 1)
    assert [images[name].category for name in images] == [
        "Opacity",
        "Opacity",
        "Abnormal without opacity",
        "No finding",
    ]


def test_two_readers_make_an_opacity_and_one_makes_it_uncertain(folder):
    found = datasets.as_opacity(datasets.load(folder))
    assert found.class_names == ("lung opacity",)
    images = by_name(found)
    assert images["both"].boxes.tolist() == [pytest.approx([16.0, 12.8, 32.0, 41.6])]
    assert images["both"].labels == ("lung opacity",)
    assert {name: (image.target, image.uncertain) for name, image in images.items()} == {
        "both": (True, False),
        "alone": (False, True),
        "heart": (False, False),
        "none": (False, False),
    }


def test_findings_are_the_share_of_readers_who_marked_them(folder):
    images = by_name(datasets.load(folder))
    both, heart, none = (dict(images[name].findings) for name in ("both", "heart", "none"))
    marked = {name: share for name, share in both.items() if share}
    third = pytest.approx(1 / 3)
    assert marked == {
        "abnormal": 1, "VinBigData Cardiomegaly": third, "VinBigData Consolidation": third,
        "VinBigData Infiltration": third, "VinBigData Lung Opacity": third,
    }  # fmt: skip
    assert (heart["VinBigData Cardiomegaly"], heart["abnormal"]) == (1, 1)
    assert sum(none.values()) == 0
    assert len(none) == len(both) == 15
    # They stay what they are where boxes of other classes are dropped.
    opacity = by_name(datasets.as_opacity(datasets.load(folder)))
    assert dict(opacity["heart"].findings) == heart


def test_which_classes_are_opacity_can_be_chosen(folder):
    images = by_name(datasets.as_opacity(datasets.load(folder), ["Cardiomegaly"]))
    assert images["heart"].target
    assert images["both"].uncertain
    assert (images["alone"].target, images["alone"].uncertain) == (False, False)
    (box,) = images["heart"].boxes
    assert box[0] == pytest.approx((50 + 50 + 60) / 3 * SIDE / WIDTH)


def test_other_data_sets_keep_all_of_their_boxes(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "boxes.csv").write_text("image_id,x,y,width,height,class\na,8,8,20,10,mass\n")
    (image,) = datasets.as_opacity(datasets.load(tmp_path), ["Cardiomegaly"]).images
    assert (image.labels, image.target) == (("lung opacity",), True)
    assert image.boxes.tolist() == [[8, 8, 28, 18]]


def test_one_reader_who_draws_twice_does_not_agree_with_himself(folder):
    both = by_name(datasets.load(folder))["both"]
    twice = opacity_only(both, ("Lung Opacity", "Cardiomegaly"))
    assert twice.uncertain


def test_sizes_are_needed(folder):
    sizes = (folder / "train_meta.csv").read_text().replace(f"both,{HEIGHT},", "both,,")
    (folder / "train_meta.csv").write_text(sizes)
    found = datasets.load(folder)
    assert "both" not in by_name(found)
    assert [issue.kind for issue in found.issues] == ["unusable row", "file without label"]


def test_a_box_without_numbers_is_an_issue_and_leaves_the_image_uncertain(folder):
    rows = gzip.decompress((folder / "train.csv.gz").read_bytes()).decode()
    rows = rows.replace("R1,10,10,90,90", "R1,10,10,,90")
    (folder / "train.csv").write_text(rows)  # it goes before the compressed one
    found = datasets.load(folder)
    assert [issue.kind for issue in found.issues] == ["box without numbers"]
    assert by_name(found)["alone"].uncertain


COLUMNS = "image_id,kind,nih_labels,findings_read,fold,group"
NIH = f"""{COLUMNS},ViewPosition,PatientAge,PatientSex,equalised
a_000,expert_no_opacity_abnormal,Effusion|Pneumonia,Mass|Pleural Thickening|Other,2,p1,PA,57,M,0
a_001,expert_no_opacity_normal,No Finding,,2,p1,AP,58,M,1
b_000,expert_opacity,Mass|Pleural_Thickening,,4,p2,PA,5,F,0
c_000,nih_no_finding,No Finding,,0,p3,PA,,F,0
d_000,something,,,0,p4,PA,70,F,0
"""


def test_of_nihs_images_those_that_were_read_are_negatives(tmp_path):
    (tmp_path / "nih_images.csv").write_text(NIH)
    for name in ("a_000", "a_001", "b_000", "c_000", "d_000"):
        picture(tmp_path / "images" / f"{name}.jpg")
    found = datasets.load(tmp_path)
    images = by_name(found)
    assert [image.uncertain for image in images.values()] == [False, False, True, True, True]
    assert not any(image.target for image in images.values())
    first, second, third, fourth, _ = images.values()
    assert (first.patient, first.fold, first.view, first.age, first.sex) == ("p1", 2, "PA", 57, "M")
    assert (second.equalised, first.equalised) == (True, False)
    assert (third.category, fourth.age) == ("expert_opacity", -1)
    assert [issue.kind for issue in found.issues] == ["unknown class"]
    assert "something is not known" in found.issues[0]
    assert nih.INFO.negatives["abnormal"] == first.category


def test_findings_of_nih_are_those_of_readers_where_there_are_any(tmp_path):
    (tmp_path / "nih_images.csv").write_text(NIH)
    for name in ("a_000", "a_001", "b_000", "c_000", "d_000"):
        picture(tmp_path / "images" / f"{name}.jpg")
    found = [dict(image.findings) for image in datasets.load(tmp_path).images]
    present = [{name for name, value in each.items() if value} for each in found]
    assert present[:3] == [
        {"abnormal", "NIH Mass", "NIH Pleural_Thickening"}, set(),
        {"NIH Mass", "NIH Pleural_Thickening"},
    ]  # fmt: skip
    # The kinds that radiologists read say whether an image is abnormal; others do not.
    assert ["abnormal" in each for each in found] == [True, True, False, False, False]
    # Readers had no pneumonia on their list.
    assert "NIH Pneumonia" not in found[0]
    assert [len(each) for each in found] == [14, 15, 14, 14, 0]


def test_a_misspelt_finding_is_an_issue(tmp_path):
    (tmp_path / "nih_images.csv").write_text(NIH.replace("Effusion|Pneumonia", "Efusion"))
    for name in ("a_000", "a_001", "b_000", "c_000", "d_000"):
        picture(tmp_path / "images" / f"{name}.jpg")
    found = [issue for issue in datasets.load(tmp_path).issues if "finding" in issue.kind]
    assert [issue.what for issue in found] == ["Efusion is none of NIH's 14"]
    assert "line 2, a_000: " in found[0]


def test_a_folder_without_the_tables_is_none(tmp_path):
    (tmp_path / "images.csv").write_text("image_id,fold\na,1\n")
    with pytest.raises(DatasetError, match=r"train\.csv with train_meta\.csv"):
        datasets.load(tmp_path)


def test_findings_keep_their_classes_and_single_readers(folder):
    found = datasets.as_findings(datasets.load(folder))
    assert found.class_names == vinbigdata.CLASSES
    images = by_name(found)
    assert images["both"].labels == (
        "Lung Opacity", "Infiltration", "Cardiomegaly", "Consolidation",
    )  # fmt: skip
    assert images["both"].boxes[1].tolist() == [pytest.approx(v) for v in (16, 12.8, 32, 44.8)]
    (heart,) = images["heart"].boxes
    assert heart[0] == pytest.approx((50 + 50 + 60) / 3 * SIDE / WIDTH)
    assert images["heart"].readers == ()
    assert {name: (image.target, image.uncertain) for name, image in images.items()} == {
        "both": (True, False),
        "alone": (True, False),
        "heart": (True, False),
        "none": (False, False),
    }


def test_chosen_findings_are_in_the_given_order_and_others_are_dropped(folder):
    data = datasets.load(folder)
    found = datasets.as_findings(data, ["Consolidation", "Cardiomegaly"], min_readers=2)
    assert found.class_names == ("Consolidation", "Cardiomegaly")
    images = by_name(found)
    assert images["heart"].labels == ("Cardiomegaly",)
    # One reader's box alone: neither positive nor negative; other findings are negatives.
    assert [images[name].uncertain for name in ("alone", "both", "heart")] == [True, True, False]
    only = by_name(datasets.as_findings(data, ["Consolidation"]))
    assert (only["heart"].target, only["heart"].uncertain) == (False, False)
    strict = datasets.as_findings(data, ["Cardiomegaly"], iou_threshold=0.98)
    assert len(by_name(strict)["heart"].boxes) == 2
    with pytest.raises(DatasetError, match="the finding Effusion; they have: Aortic enlargement"):
        datasets.as_findings(data, ["Effusion"])


def test_data_of_opacity_alone_has_no_findings(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("plain")
    picture(other / "a.png")
    (other / "boxes.csv").write_text("image_id,x,y,width,height\na,8,8,20,10\n")
    plain = datasets.load(other)
    with pytest.raises(DatasetError, match="none of the data sets has boxes of several"):
        datasets.as_findings(plain)
    both = datasets.as_findings(plain + datasets.load(folder))
    assert both.class_names == vinbigdata.CLASSES
    assert [image.source for image in both.images] == ["vinbigdata"] * 4
    (other / "boxes.csv").write_text("image_id,x,y,width,height,class\na,8,8,20,10,mass\n")
    mass = datasets.as_findings(datasets.load(other))
    assert (mass.class_names, mass.images[0].labels) == (("mass",), ("mass",))
    with pytest.raises(DatasetError, match="they have: mass"):
        datasets.as_findings(datasets.load(other), ["lung opacity"])


def test_agreement_of_readers_is_by_class(folder):
    found = datasets.readers_agreement(datasets.load(folder).images)
    assert {name: tuple(value) for name, value in found.items()} == {
        "Cardiomegaly": (4, 3),
        "Consolidation": (2, 0),
        "Lung Opacity": (1, 0),
        "Infiltration": (1, 0),
    }
    assert found["Cardiomegaly"].share == 0.75
    assert datasets.readers_agreement(datasets.as_findings(datasets.load(folder)).images) == {}
