"""The reference system from the first step to the last: DICOM files in, its boxes out.

Four weight files as Keras 2 writes them, real radiographs in JPEG-compressed DICOM, the command
line; beside it the same done by hand, step by step.
"""

import subprocess
import sys
from io import BytesIO

import h5py
import keras
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGBaseline8Bit
from scipy import ndimage

from lungbox import architecture
from lungbox.boxes.geometry import to_xywh
from lungbox.submission import read_submission
from lungbox.weights.keras2 import load_keras2
from tests import dicoms, reference
from tests.conftest import ROOT

COUNT = 50
SIDE = 128


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The published networks' weight files, set by a rule.

    One bias is moved: as it is by the rule, the mask fills nearly the whole of every image.
    """
    folder = tmp_path_factory.mktemp("published")
    paths = {
        name: reference.write_h5(name, folder / f"{name}.h5", first=11 * number)
        for number, name in enumerate(reference.NETWORKS)
    }
    with h5py.File(paths["unet_resnet152_reference"], "r+") as file:
        layer = file.attrs["layer_names"][-1]
        group = file[layer]
        group[group.attrs["weight_names"][-1]][1] -= 1.4
    return paths


@pytest.fixture(scope="module")
def radiographs(shared, tmp_path_factory):
    """Real radiographs as a scanner's archive would hold them: DICOM around their JPEG data."""
    folder = tmp_path_factory.mktemp("radiographs")
    for path in sorted((shared / "rsna/images").iterdir())[:: 1821 // COUNT][:COUNT]:
        with Image.open(path) as image:
            ds = dicoms.dataset(np.asarray(image))
        ds.PixelData = encapsulate([path.read_bytes()])
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        ds.save_as(folder / f"{path.stem}.dcm", enforce_file_format=True)
    return folder


def lungbox(*arguments):
    command = [sys.executable, "-m", "lungbox", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def averaged(files, images):
    """The mean of the four networks' outputs, `(N, 128, 128, 2)`."""
    total = 0.0
    for name, file in files.items():
        network = architecture.build(name)
        load_keras2(network, file)
        total = total + network.predict(images, batch_size=10, verbose=0)["mask"] / 4
        keras.backend.clear_session()
    return total


def gray(path):
    """The nearest of a DICOM file's pixels for each of 128 x 128, as Pillow decodes it."""
    ds = pydicom.dcmread(path)
    (content,) = generate_frames(ds.PixelData, number_of_frames=1)
    with Image.open(BytesIO(content)) as image:
        small = image.resize((SIDE, SIDE), Image.Resampling.NEAREST)
        return np.asarray(small, np.float32)[..., None]


def boxes_by_hand(mask):
    """Argmax, 1024 x 1024, regions, 25,000 pixels, confidence, 5 % off each side."""
    large = np.kron(mask.argmax(axis=-1), np.ones((8, 8), int))
    regions, _ = ndimage.label(large, structure=np.ones((3, 3)))
    found = []
    for rows, columns in ndimage.find_objects(regions):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if height * width <= 25_000:
            continue
        confidence = large[rows, columns].mean()
        across, down = int(width * 0.05), int(height * 0.05)
        box = (columns.start + across, rows.start + down, width - 2 * across, height - 2 * down)
        found.append((box, confidence))
    return sorted(found)


@pytest.mark.real
@pytest.mark.long
def test_fifty_real_radiographs(files, radiographs, own_home, tmp_path):
    for name, file in files.items():
        lungbox("weights", "add", "reference_" + name.removesuffix("_reference"), file)
    paths = sorted(radiographs.iterdir())
    masks = averaged(files, np.stack([gray(path) for path in paths]))
    expected = {path.stem: boxes_by_hand(mask) for path, mask in zip(paths, masks, strict=True)}
    assert len({str(boxes) for boxes in expected.values()}) > COUNT / 2
    same = {}
    for engine in ("keras", "openvino"):
        submitted = predicted(radiographs, engine, tmp_path / engine)
        assert submitted.keys() == expected.keys()
        same[engine] = sum(close(submitted[name], expected[name]) for name in expected)
    # A region may change where two channels are equal to the last digits.
    assert same["keras"] >= COUNT - 1
    assert same["openvino"] >= COUNT - 3


def predicted(folder, engine, out):
    arguments = ("--ensemble", "reference", "--submission-size", 1024, "--engine", engine)
    said = lungbox("predict", folder, *arguments, "--output", out)
    assert f"{COUNT} radiographs read" in said
    return read_submission(out / "submission.csv")


def close(prediction, expected):
    """Whether boxes are the same to the pixel, and their confidences to the fourth digit."""
    boxes = [tuple(map(round, box)) for box in to_xywh(prediction.boxes).tolist()]
    found = sorted(zip(boxes, prediction.scores.tolist(), strict=True))
    if [box for box, _ in found] != [box for box, _ in expected]:
        return False
    return np.allclose([c for _, c in found], [c for _, c in expected], atol=1e-4)
