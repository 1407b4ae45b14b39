"""Radiographs of 3:4 and 4:3 through everything that scales boxes: where they come out.

The network is one whose masks are known: it marks what is bright. A file holds one bright
rectangle whose edges fall on those of the mask's pixels, in a place where width and height, left
and right, top and bottom cannot be taken for each other; so the boxes are known to the pixel.
"""

import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lungbox import datasets
from lungbox.architecture import heads, registry
from lungbox.boxes.geometry import as_boxes
from lungbox.constants import OPACITY
from lungbox.datasets.types import Dataset
from lungbox.engines import start
from lungbox.evaluation.predictions import predict_dataset
from lungbox.inference.files import find_image_files
from lungbox.inference.overlay import beside_truth
from lungbox.inference.predictor import load, open_ensemble
from lungbox.inference.run import PredictRequest, predict_folder
from lungbox.submission import read_submission
from lungbox.weights.entries import Ensemble, Weights
from lungbox.weights.formats.safetensors import save_weights
from lungbox.weights.manifest import register
from lungbox.weights.store import sha256
from tests import dicoms
from tests.training.keys import labelled

SIDE, STRIDE = 64, 4  # so masks have 16 x 16 pixels
COLUMNS, ROWS = slice(8, 14), slice(2, 5)
# Width and height of a file, and its rectangle: mask pixels of 30 x 40, then of 40 x 30.
FILES = {
    "portrait": ((480, 640), (240, 80, 420, 200)),
    "landscape": ((640, 480), (320, 60, 560, 150)),
}
BOX, TRUTH = (255, 196, 0), (64, 224, 255)


def marks_what_is_bright(image_size: int = SIDE) -> keras.Model:
    """Opacity where the prepared image is brighter than half."""
    inputs = keras.Input((image_size, image_size, 1))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    mask = heads.mask(keras.layers.AveragePooling2D(STRIDE)(x))
    return keras.Model(inputs, {"mask": mask, "image": heads.image_score(x, mask)})


def pixels(name: str) -> np.ndarray:
    (width, height), (x1, y1, x2, y2) = FILES[name]
    drawn = np.random.default_rng(0).integers(10, 60, (height, width)).astype(np.uint8)
    # One gray level: equalised, the rest is spread over what is left of the range.
    drawn[y1:y2, x1:x2] = 230
    return drawn


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two such networks, one more certain than the other, alone, together, and mirrored."""
    folder = tmp_path_factory.mktemp("bright")
    patch = pytest.MonkeyPatch()
    patch.setenv("LUNGBOX_HOME", str(folder))
    patch.setattr(registry, "_NETWORKS", dict(registry._NETWORKS))
    registry.network(encoder="none", stride=STRIDE, image_size=SIDE)(marks_what_is_bright)
    for name, steepness in (("sure", 200), ("unsure", 60)):
        model = marks_what_is_bright()
        kernel, bias = model.get_layer("mask_logits").get_weights()
        kernel[..., OPACITY], kernel[..., 1 - OPACITY] = steepness, 0
        bias[OPACITY], bias[1 - OPACITY] = -0.97 * steepness, 0
        model.get_layer("mask_logits").set_weights([kernel, bias])
        path = folder / f"{name}.safetensors"
        save_weights(model, path)
        weights = Weights(
            architecture="marks_what_is_bright",
            image_size=SIDE,
            sha256=sha256(path),
            bytes=path.stat().st_size,
            sources=(f"file:{path}",),
        )
        point = {"min_area": 0.0, "shrink": 0.0}
        register(name, weights, Ensemble(members=(name,), **point))
    both = ("sure", "unsure")
    register("both", weights, Ensemble(members=both, **point))
    register("mirrored", weights, Ensemble(members=both, flip=True, **point))
    register("shrunk", weights, Ensemble(members=both, min_area=0.06, shrink=0.05))
    reference = {"rule": "argmax", "compatibility": "reference"}
    register("reference-rule", weights, Ensemble(members=both, **reference))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Each as a PNG and, in a folder of its own, as a DICOM."""
    folder = tmp_path_factory.mktemp("files")
    for name in FILES:
        Image.fromarray(pixels(name)).save(folder / f"{name}.png")
    (folder / "scans").mkdir()
    for name in FILES:
        dicoms.write(dicoms.dataset(pixels(name)), folder / f"scans/{name}-scan.dcm")
    return folder


def of(identity: str):
    return FILES[identity.removesuffix("-scan")]


@pytest.mark.parametrize("engine", ["keras", "openvino"])
@pytest.mark.parametrize("ensemble", ["both", "mirrored"])
def test_boxes_are_where_the_file_is_bright(home, files, engine, ensemble):
    detector = load(ensemble, engine=engine, batch_size=3, precision="float32")
    sources, _ = find_image_files(files)
    assert len(sources) == 4
    for outcome in detector.predict_all(sources):
        size, box = of(outcome.source.identity)
        assert outcome.findings.size == size
        assert outcome.findings.boxes.tolist() == [list(box)]
        opaque = outcome.mask[..., OPACITY] > 0.5
        assert opaque[ROWS, COLUMNS].all()
        assert opaque.sum() == 3 * 6
        assert detector.predict(outcome.source.path).boxes.tolist() == [list(box)]


def test_boxes_are_shrunk_along_their_own_sides(home, files):
    """5 % of its width off the left and right, of its height off the top and bottom; its share of
    the image, 18 of 256 pixels, is just above the least."""
    detector = load("shrunk", engine="keras", precision="float32")
    found = detector.predict(files / "portrait.png").boxes
    assert found.tolist() == [[240 + 9, 80 + 6, 420 - 9, 200 - 6]]
    found = detector.predict(files / "landscape.png").boxes
    assert found.tolist() == [[320 + 12, 60 + 4.5, 560 - 12, 150 - 4.5]]


def test_the_references_rule_is_of_its_own_square(home, files):
    """On 1024 x 1024 the rectangle is 384 x 192 at 512, 128, and loses 19 and 9 a side, whatever
    the file's shape."""
    detector = load("reference-rule", engine="keras", precision="float32")
    for name, (size, _) in FILES.items():
        (found,) = detector.predict(files / f"{name}.png").boxes
        across, down = size[0] / 1024, size[1] / 1024
        expected = [531 * across, 137 * down, 877 * across, 311 * down]
        assert found == pytest.approx(expected, abs=0.01)


def test_labels_are_in_pixels_of_the_file(files, tmp_path):
    """RSNA's are of 1024 x 1024; those of a plain folder are the file's own."""
    rsna, plain = tmp_path / "rsna", tmp_path / "plain"
    (rsna / "images").mkdir(parents=True)
    plain.mkdir()
    labels = ["patientId,x,y,width,height,Target"]
    boxes = ["image_id,x,y,width,height"]
    for name in FILES:
        Image.fromarray(pixels(name)).save(rsna / f"images/{name}.png")
        Image.fromarray(pixels(name)).save(plain / f"{name}.png")
        # The same share of every file: from a half to seven eighths, from 1/8 to 5/16.
        labels.append(f"{name},512,128,384,192,1")
        x1, y1, x2, y2 = FILES[name][1]
        boxes.append(f"{name},{x1},{y1},{x2 - x1},{y2 - y1}")
    (rsna / "stage_2_train_labels.csv").write_text("\n".join(labels) + "\n")
    (plain / "boxes.csv").write_text("\n".join(boxes) + "\n")
    for folder in (rsna, plain):
        images = datasets.load(folder).images
        assert len(images) == 2
        for image in images:
            assert (image.size, image.boxes.tolist()) == (
                FILES[image.identity][0], [list(FILES[image.identity][1])],
            )  # fmt: skip


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def coloured(picture, colour):
    """Left, top, right and bottom of what has a colour."""
    rows, columns = np.nonzero((picture == colour).all(axis=-1))
    return columns.min(), rows.min(), columns.max(), rows.max()


@pytest.fixture(scope="module")
def results(home, files, tmp_path_factory):
    """What `predict --overlays --members --submission-size 1024` leaves."""
    out = tmp_path_factory.mktemp("results") / "out"
    request = PredictRequest(
        images=files, ensemble="both", output=out, engine="openvino", precision="float32",
        ids=None, submission_size=1024, overlays=True, members=True, batch_size=2,
    )  # fmt: skip
    predict_folder(request, Console(quiet=True))
    return out


def test_tables_of_a_run(results):
    submitted = read_submission(results / "submission.csv")
    lines = (results / "predictions.jsonl").read_text().splitlines()
    records = {record["id"]: record for record in map(json.loads, lines)}
    assert len(table(results / "images.csv")) == len(submitted) == len(records) == 4
    for row in table(results / "images.csv"):
        (width, height), box = of(row["patientId"])
        assert (row["width"], row["height"], row["boxes"]) == (str(width), str(height), "1")
        record = records[row["patientId"]]
        assert (record["width"], record["height"]) == (width, height)
        assert [found["box"] for found in record["findings"]] == [list(box)]
        x1, y1, x2, y2 = box
        across, down = 1024 / width, 1024 / height
        expected = [x1 * across, y1 * down, x2 * across, y2 * down]
        assert submitted[row["patientId"]].boxes[0] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", FILES)
def test_pictures_of_a_run(results, name):
    """The overlay has the file's shape; of the members' row the last picture has the box, and each
    has its heat where the mask is."""
    (width, height), (x1, y1, x2, y2) = FILES[name]
    with Image.open(results / f"overlays/{name}.png") as picture:
        assert picture.width == width
        drawn = np.asarray(picture)[:height]
    assert (drawn == BOX).all(axis=-1)[y1 + 30 : y2, :].any()
    left, _, right, bottom = coloured(drawn[y1 + 30 :], BOX)
    assert (left, right, bottom + y1 + 30) == pytest.approx((x1, x2, y2), abs=2)
    red = drawn[..., 0].astype(int) - drawn[..., 2] > 60
    assert red[y1 + 40 : y2 - 25, x1 + 20 : x2 - 20].mean() > 0.95
    red[y1 - 45 : y2 + 45, x1 - 45 : x2 + 45] = False
    assert not red.any()

    tile_width, tile_height = (round(384 * side / max(width, height)) for side in (width, height))
    factor = 384 / max(width, height)
    with Image.open(results / f"members/{name}.png") as picture:
        assert picture.width == 3 * tile_width + 8
        row = np.asarray(picture)[24 : 24 + tile_height]
    for number in range(3):
        left = number * (tile_width + 4)
        tile = row[:, left : left + tile_width].astype(int)
        middle = tile[round(factor * (y1 + y2) / 2), round(factor * (x1 + x2) / 2)]
        assert middle[0] - middle[2] > 60
        elsewhere = tile[round(factor * (height - (y1 + y2) / 2)), round(factor * (x1 + x2) / 2)]
        assert elsewhere[0] - elsewhere[2] < 20
        assert (tile == BOX).all(axis=-1).any() == (number == 2)
    _, _, right, bottom = coloured(row[:, 2 * (tile_width + 4) :], BOX)
    assert (right, bottom) == pytest.approx((factor * x2, factor * y2), abs=2)


@pytest.mark.parametrize("name", FILES)
def test_members_own_masks_lie_as_the_file_does(results, name):
    with np.load(results / f"members/{name}.npz") as kept:
        assert set(kept) == {"sure", "unsure"}
        for opacity in kept.values():
            assert opacity.shape == (16, 16)
            assert (opacity[ROWS, COLUMNS] > 127).all()
            assert (opacity > 127).sum() == 18


def test_what_is_evaluated_has_the_same_boxes(home, files, tmp_path):
    """From the training cache rather than from the file, in pixels of the labels."""
    images = [
        labelled(number, size, [box], path=files / f"{name}.png")
        for number, (name, (size, box)) in enumerate(FILES.items())
    ]
    config, point, _ = open_ensemble("both", 2, precision="float32")
    maps = predict_dataset(Dataset(tuple(images)), start("openvino", config), tmp_path)
    for row, image in enumerate(images):
        boxes, *_ = maps.boxes(row, point)
        assert boxes.tolist() == image.boxes.tolist()


@pytest.mark.parametrize("name", FILES)
def test_truth_and_findings_on_one_picture(home, files, name):
    (width, height), (_, _, x2, y2) = FILES[name]
    detector = load("both", engine="keras", precision="float32")
    (source,) = (source for source in find_image_files(files)[0] if source.identity == name)
    (outcome,) = detector.predict_all([source])
    truth = as_boxes([(20, height - 200, 140, height - 40)])
    picture = np.asarray(
        beside_truth(pixels(name), outcome.mask, outcome.findings, truth, side=320)
    )
    factor = 320 / 640
    assert picture.shape == (round(height * factor), round(width * factor), 3)
    expected = [factor * edge for edge in (20, height - 200, 140, height - 40)]
    assert coloured(picture, TRUTH) == pytest.approx(expected, abs=2)
    _, _, right, bottom = coloured(picture, BOX)
    assert (right, bottom) == pytest.approx((factor * x2, factor * y2), abs=2)
