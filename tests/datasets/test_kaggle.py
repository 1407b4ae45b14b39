"""The challenges' folders exactly as Kaggle ships them, and a folder of one's own."""

import numpy as np
import pytest
from PIL import Image

from lungbox import datasets
from lungbox.boxes import geometry
from lungbox.datasets import DatasetError, headers
from tests.datasets import kaggle


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def rsna(tmp_path):
    return kaggle.write_rsna(tmp_path / "rsna", 10)


@pytest.fixture
def headers_read(monkeypatch):
    read = []
    real = headers.read_metadata
    monkeypatch.setattr(headers, "read_metadata", lambda path: read.append(path) or real(path))
    return read


class TestRsna:
    def test_boxes_are_those_drawn(self, rsna):
        loaded = datasets.load(rsna)
        assert loaded.issues == ()
        assert len(loaded) == 10
        for number, image in enumerate(loaded.images):
            assert np.allclose(image.boxes, kaggle.phantom(number, 64).boxes, atol=1e-3)
            assert image.target == (number % 3 > 0)
            assert image.patient == image.identity

    def test_the_headers_give_view_sex_and_age(self, rsna):
        images = datasets.load(rsna).images
        assert [image.view for image in images[:4]] == ["AP", "PA", "AP", "PA"]
        assert [image.sex for image in images[:3]] == ["M", "F", ""]
        assert [image.age for image in images[:5]] == [58, 58, 1, -1, -1]

    def test_all_three_classes_say_whether_an_image_is_abnormal(self, rsna):
        normal, opacity, _, not_normal = datasets.load(rsna).images[:4]
        found = [dict(image.findings)["abnormal"] for image in (normal, opacity, not_normal)]
        assert found == [0, 1, 1]
        assert not_normal.category == "No Lung Opacity / Not Normal"

    def test_a_table_goes_before_the_headers(self, rsna):
        (rsna / "images.csv").write_text(
            "patientId,PatientAge,ViewPosition,PatientSex,fold\n0000e1f0-0,31,PA,F,3\n"
        )
        first, second = datasets.load(rsna).images[:2]
        assert (first.view, first.sex, first.age, first.fold) == ("PA", "F", 31, 3)
        assert (second.view, second.sex, second.age) == ("PA", "F", 58)

    def test_headers_are_read_once(self, rsna, headers_read):
        first = datasets.load(rsna)
        assert len(headers_read) == 10
        second = datasets.load(rsna)
        assert len(headers_read) == 10
        assert [i.size for i in first.images] == [i.size for i in second.images]
        assert [i.age for i in first.images] == [i.age for i in second.images]

    def test_a_changed_file_is_read_again(self, rsna, headers_read):
        datasets.load(rsna)
        changed = sorted((rsna / "stage_2_train_images").iterdir())[4]
        changed.write_bytes(changed.read_bytes()[:40])
        loaded = datasets.load(rsna)
        assert headers_read[10:] == [changed]
        (issue,) = loaded.issues
        assert changed.name in issue
        assert len(loaded) == 9

    @pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"a": 3}'])
    def test_a_damaged_table_of_headers_is_made_again(self, rsna, tmp_path, content):
        datasets.load(rsna)
        (table,) = (tmp_path / "cache/headers").iterdir()
        table.write_text(content)
        assert len(datasets.load(rsna)) == 10

    def test_without_classes(self, rsna):
        (rsna / "stage_2_detailed_class_info.csv").unlink()
        categories = {(i.target, i.category) for i in datasets.load(rsna).images}
        assert categories == {(True, "Lung Opacity"), (False, "")}


class TestSiim:
    def test_boxes_classes_and_patients(self, tmp_path):
        loaded = datasets.load(kaggle.write_siim(tmp_path, 12))
        assert [issue.kind for issue in loaded.issues] == ["box without target"] * 2
        assert len(loaded) == 12
        for number, image in enumerate(loaded.images):
            expected = kaggle.phantom(number, 64).boxes + np.array([16, 0, 16, 0])
            assert image.size == (96, 64)
            assert np.allclose(image.boxes, expected, atol=1e-3)
            assert image.category == kaggle.SIIM_CLASSES[number // 2 % 4]
            assert image.patient == f"patient{number // 4}"
            assert image.uncertain == (number % 3 == 0 and number // 2 % 4 != 0)

    def test_without_patients_the_study_is_one(self, tmp_path):
        kaggle.write_siim(tmp_path, 4)  # all of one patient: as an anonymiser would leave it
        images = datasets.load(tmp_path).images
        assert [image.patient for image in images] == ["study0", "study0", "study1", "study1"]
        assert images[0].fold == images[1].fold

    @pytest.mark.parametrize(
        "cell", ["[{'x': 1, 'y'", "__import__('os')", "7", "[3]", "[{'x': 1}]", "(" * 500]
    )
    def test_boxes_that_are_no_list(self, tmp_path, cell):
        kaggle.write_siim(tmp_path, 8)
        rows = [["000000000002_image", cell, "", "study1"]]
        kaggle.write_table(tmp_path / "train_image_level.csv", [list(kaggle.SIIM_TABLE), *rows])
        loaded = datasets.load(tmp_path)
        (image,) = loaded.images
        assert image.uncertain
        assert not image.target
        issue = next(issue for issue in loaded.issues if issue.kind == "box without numbers")
        assert "train_image_level.csv, line 2, 000000000002" in issue

    def test_a_study_without_class_and_one_with_two(self, tmp_path):
        kaggle.write_siim(tmp_path, 8)
        table = [["id", *kaggle.SIIM_CLASSES], ["study0_study", "1", "1", "0", "0"]]
        kaggle.write_table(tmp_path / "train_study_level.csv", table)
        loaded = datasets.load(tmp_path)
        assert {image.category for image in loaded.images} == {""}
        assert [image.uncertain for image in loaded.images] == [
            not image.target for image in loaded.images
        ]
        assert sum("the study has 2 classes" in issue for issue in loaded.issues) == 1
        assert sum("is not in train_study_level.csv" in issue for issue in loaded.issues) == 6


class TestPlain:
    @pytest.fixture
    def folder(self, tmp_path):
        names = ("a.png", "deep/b.jpg", "deep/er/c.png", "one/d.png", "two/d.png")
        for gray, name in enumerate(names):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (80, 40), gray).save(tmp_path / name)
        return tmp_path

    def write(self, folder, *rows, more=""):
        content = "\n".join((f"image_id,x,y,width,height{more}", *rows))
        (folder / "boxes.csv").write_text(content + "\n")
        return datasets.load(folder)

    def test_images_are_found_wherever_they_are(self, folder):
        rows = ("a,10,10,20,20", "a,50,5,10,10", "b.jpg,,,,", "deep/er/c,0,0,80,40", "two/d,,,,")
        loaded = self.write(folder, *rows)
        found = {i.identity: (str(i.path.relative_to(folder)), i.target) for i in loaded.images}
        assert found == {
            "a": ("a.png", True),
            "b": ("deep/b.jpg", False),
            "deep/er/c": ("deep/er/c.png", True),
            "two/d": ("two/d.png", False),
        }
        assert loaded.images[0].boxes.tolist() == [[10, 10, 30, 30], [50, 5, 60, 15]]
        assert not any(image.uncertain for image in loaded.images)
        (issue,) = loaded.issues
        assert "one/d.png: has no label" in issue

    def test_a_shared_name_needs_its_path(self, folder):
        loaded = self.write(folder, "a,,,,", "d,,,,")
        assert [image.identity for image in loaded.images] == ["a"]
        assert "boxes.csv, d: several files have this name" in " ".join(loaded.issues)

    def test_optional_columns(self, folder):
        rows = ("a,1,1,9,9,Mass,p1,2", "b,,,,,Clear,p1,", "deep/er/c,,,,,,p2,9")
        loaded = self.write(folder, *rows, more=",class,patient,fold")
        a, b, c = loaded.images
        assert [(i.category, i.patient) for i in (a, b, c)] == [
            ("Mass", "p1"), ("Clear", "p1"), ("", "p2"),
        ]  # fmt: skip
        assert a.fold == b.fold == 2  # b is of the same patient
        assert c.fold in range(5)
        assert "fold 9 is none of 0-4" in " ".join(loaded.issues)

    def test_each_box_has_its_class(self, folder):
        rows = ("a,10,10,20,20,Nodule", "a,10,10,20,20,Mass", "a,50,5,10,10,", "b,,,,,Clear")
        loaded = self.write(folder, *rows, more=",class")
        a, b = loaded.images
        assert (a.labels, a.category) == (("Nodule", "Mass", "lung opacity"), "Nodule")
        assert a.boxes.tolist() == [[10, 10, 30, 30]] * 2 + [[50, 5, 60, 15]]
        assert (b.labels, b.category) == ((), "Clear")
        assert loaded.class_names == ("Mass", "Nodule", "lung opacity")
        assert {issue.kind for issue in loaded.issues} == {"file without label"}

    def test_without_classes_boxes_are_lung_opacities(self, folder):
        loaded = self.write(folder, "a,10,10,20,20", "b,,,,")
        assert loaded.images[0].labels == loaded.class_names == ("lung opacity",)

    def test_the_same_image_in_two_folds_is_an_issue(self, folder):
        copy = folder / "deep/copy.png"
        copy.write_bytes((folder / "a.png").read_bytes())
        loaded = self.write(folder, "a,,,,,0", "copy,,,,,3", "b,,,,,1", more=",fold")
        (issue,) = [issue for issue in loaded.issues if issue.kind == "file in several folds"]
        assert issue == (
            f"{copy}: is in fold 3, and its copy {folder / 'a.png'} in fold 0; a score on one of "
            "them is too good"
        )
        loaded = self.write(folder, "a,,,,,3", "copy,,,,,3", "b,,,,,1", more=",fold")
        assert "file in several folds" not in {issue.kind for issue in loaded.issues}

    def test_a_folder_behind_a_link_is_searched(self, folder, tmp_path_factory):
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        Image.new("L", (30, 20), 7).save(elsewhere / "linked.png")
        (folder / "link").symlink_to(elsewhere)
        loaded = self.write(folder, "linked,1,2,3,4")
        assert [image.size for image in loaded.images] == [(30, 20)]

    def test_a_box_that_cannot_be_used_makes_no_negative(self, folder):
        (image,) = self.write(folder, "a,10,10,0,20").images
        assert image.uncertain


def test_a_wrong_folder_hears_all_that_was_looked_for(tmp_path):
    (tmp_path / "train_study_level.csv").write_text("id\n")
    with pytest.raises(DatasetError) as error:
        datasets.load(tmp_path)
    for name in (
        "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv", "stage_2_train_images/",
        "images.csv", "boxes.csv", "images/", "train_image_level.csv", "train_study_level.csv",
        "train/",
    ):  # fmt: skip
        assert name in str(error.value)


def test_several_data_sets_in_one_folder(tmp_path):
    kaggle.write_rsna(tmp_path / "one", 3)
    kaggle.write_siim(tmp_path / "two", 6)
    loaded = datasets.load(tmp_path)
    assert [image.source for image in loaded.images] == ["rsna"] * 3 + ["siim"] * 6
    assert loaded.class_names == ("lung opacity",)
    assert all(image.labels == ("lung opacity",) * len(image.boxes) for image in loaded.images)
    assert all(geometry.area(image.boxes).all() for image in loaded.images)
