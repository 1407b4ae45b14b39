"""Ensembles in the manifest: members of any kind, gates, calibration, operating points."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungbox.boxes import OperatingPoint
from lungbox.weights.entries import Calibration, Ensemble, Manifest, Weights
from lungbox.weights.entry import ManifestError
from lungbox.weights.manifest import load_manifest, read_manifest, write_manifest
from lungbox.weights.points import PointEntry

FULL = """
[weights.masks]
architecture = "unet_lite0"
image_size = 256

[weights.boxes]
architecture = "some_detection_network"
image_size = 512
kind = "detection"
class_names = ["lung opacity", "nodule"]

[weights.normal]
architecture = "some_classification_network"
image_size = 224
kind = "classification"
class_names = ["normal", "abnormal"]

[ensembles.mixed]
members = ["masks", "boxes", "normal"]
weights = [1, 2, 1]
gates = ["normal"]
rule = "threshold"
threshold = 0.4
gate = 0.3
fusion = "nms"
fusion_iou = 0.6
min_score = 0.2

[ensembles.mixed.calibration]
slope = 2.0
intercept = -1.0

[ensembles.mixed.operating_points.sensitive]
rule = "threshold"
threshold = 0.25
gate = 0.1
"""


@pytest.fixture
def read(tmp_path):
    def of(text):
        path = tmp_path / "manifest.toml"
        path.write_text(text)
        return read_manifest(path)

    return of


def test_members_of_every_kind(read, tmp_path):
    manifest = read(FULL)
    ensemble = manifest.ensemble("mixed")
    assert [manifest.weights[name].kind for name in ensemble.members] == [
        "segmentation",
        "detection",
        "classification",
    ]
    assert manifest.weights["masks"].class_names == ("lung opacity",)
    assert manifest.weights["boxes"].class_names == ("lung opacity", "nodule")
    assert ensemble.normalized_weights == (0.25, 0.5, 0.25)
    assert ensemble.gates == ("normal",)
    write_manifest(manifest, tmp_path / "again.toml")
    assert read_manifest(tmp_path / "again.toml") == manifest


def test_operating_points_by_name(read):
    ensemble = read(FULL).ensemble("mixed")
    default = OperatingPoint(
        "threshold", 0.4, gate=0.3, min_score=0.2, fusion="nms", fusion_iou=0.6
    )
    assert ensemble.point == ensemble.operating_point() == ensemble.operating_point("default")
    assert ensemble.point == default
    # A named one is complete by itself: it takes nothing from the default one.
    assert ensemble.operating_point("sensitive") == OperatingPoint("threshold", 0.25, gate=0.1)
    with pytest.raises(ManifestError, match="called sensitve; did you mean sensitive"):
        ensemble.operating_point("sensitve")


def test_a_gate_is_a_member(read):
    with pytest.raises(ManifestError, match="its gate absent is not among its members"):
        read('[ensembles.a]\nmembers = ["b"]\ngates = ["absent"]\n')


OLD = '[ensembles.a]\nmembers = ["b"]\nrule = "threshold"\none_a_lung = true\n{}'


def test_manifests_of_earlier_versions(read):
    old = read(OLD.format('split = false\nextent = "all"\nconfidence = "mean"\n'))
    assert old.ensemble("a").point == OperatingPoint("threshold", max_one_box_per_lung=True)
    for setting in ("split = true", 'extent = "mass"', 'confidence = "peak"'):
        key = setting.partition(" ")[0]
        with pytest.raises(ManifestError, match=f"{key} is no setting any more"):
            read(OLD.format(setting))


def test_points_have_the_same_settings_everywhere():
    settings = set(PointEntry.model_fields)
    assert settings == {*vars(OperatingPoint())} <= set(Ensemble.model_fields)


@given(st.floats(0.001, 0.999), st.floats(0.1, 5), st.floats(-3, 3))
def test_platt_scaling(score, slope, intercept):
    found = Calibration(slope=slope, intercept=intercept)(score)
    assert math.log(found / (1 - found)) == pytest.approx(
        slope * math.log(score / (1 - score)) + intercept, abs=1e-6
    )
    assert Calibration()(score) == pytest.approx(score)
    # float32 rounds scores to 0 and 1, which are no certainty.
    ends = [Calibration(slope=slope)(end) for end in (0.0, 1.0)]
    assert ends == pytest.approx([1 / (1 + 1e7**slope), 1 - 1 / (1 + 1e7**slope)], rel=1e-5)


def test_a_manifest_without_any_of_it_is_written_as_before(tmp_path):
    write_manifest(Manifest(ensembles={"a": Ensemble(members=("b",))}), tmp_path / "m.toml")
    assert (tmp_path / "m.toml").read_text().split() == [
        "[ensembles.a]", "members", "=", "[", '"b",', "]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"b": {"class_names": ["mass"]}}, "other classes: lung opacity, and mass"),
        (
            {"b": {"kind": "detection", "class_names": ["lung opacity", "mass"]}},
            "other classes: lung opacity, and lung opacity, mass",
        ),
        ({"a": {"kind": "detection"}, "b": {"kind": "detection"}}, "no segmentation network"),
    ],
)
def test_members_that_do_not_go_together(own_home, changes, sentence):
    plain = {"architecture": "unet_lite0", "image_size": 256}
    weights = {name: Weights(**plain, **changes.get(name, {})) for name in "ab"}
    ensemble = Ensemble(members=("a", "b"), compatibility="reference")
    own_home.mkdir()
    write_manifest(Manifest(weights=weights, ensembles={"two": ensemble}))
    with pytest.raises(ManifestError, match=f"the ensemble two has .*{sentence}"):
        load_manifest()


def test_image_level_labels_are_of_their_own(own_home):
    plain = {"architecture": "unet_lite0", "image_size": 256}
    labels = Weights(**plain, kind="classification", class_names=("normal", "abnormal"))
    own_home.mkdir()
    two = Manifest(
        weights={"a": Weights(**plain), "b": labels},
        ensembles={"two": Ensemble(members=("a", "b"))},
    )
    write_manifest(two)
    assert load_manifest().ensembles["two"].members == ("a", "b")
