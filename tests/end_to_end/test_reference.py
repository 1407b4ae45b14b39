"""The reference system from the first step to the last: DICOM files in, its boxes out.

Four weight files as Keras 2 writes them, real radiographs in JPEG-compressed DICOM, the command
line; beside it the same done by hand, step by step.
"""

import subprocess
import sys

import cv2
import h5py
import keras
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit
from skimage.measure import label, regionprops
from skimage.transform import resize

from lungbox import architecture
from lungbox.boxes.geometry import to_xywh
from lungbox.submission import read_submission
from lungbox.weights.formats.keras2 import load_keras2
from tests import dicoms, reference
from tests.conftest import ROOT

COUNT = 40
SIDE, FULL = 128, 1024


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
    """Real radiographs as the challenge has them: JPEG-compressed DICOM of 1024 x 1024.

    24 are so large; the others are enlarged.
    """
    folder = tmp_path_factory.mktemp("radiographs")
    large = sorted((shared / "nih1024").glob("*.png"))
    small = sorted((shared / "rsna/images").iterdir())
    for path in [*large, *small[:: len(small) // COUNT]][:COUNT]:
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        pixels = cv2.resize(pixels, (FULL, FULL), interpolation=cv2.INTER_CUBIC)
        ds = dicoms.dataset(pixels)
        _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
        ds.PixelData = encapsulate([content.tobytes()])
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        ds.save_as(folder / f"{path.stem}.dcm", enforce_file_format=True)
    return folder


def lungbox(*arguments):
    command = [sys.executable, "-m", "lungbox", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def moving_average_weights(files, images):
    """The mean of the four networks' outputs, `(N, 128, 128, 2)`."""
    total = 0.0
    for name, file in files.items():
        network = architecture.build(name)
        load_keras2(network, file)
        total = total + network.predict(images, batch_size=10, verbose=0)["mask"] / 4
        keras.backend.clear_session()
    return total


def gray(path):
    """A DICOM file's pixels as the reference system reads and resizes them."""
    pixels = pydicom.dcmread(path).pixel_array
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    return small.astype(np.float32)[..., None]


def boxes_by_hand(mask):
    """Argmax, 1024 x 1024, regions, 25,000 pixels, confidence, 5 % off each side: scikit-image's
    own functions, as the reference system calls them."""
    opacity = mask.argmax(axis=-1).astype(np.uint8)
    large = resize(opacity, (FULL, FULL), order=0, preserve_range=True, anti_aliasing=False)
    found = []
    for region in regionprops(label(large)):
        y1, x1, y2, x2 = region.bbox
        if region.area_bbox <= 25_000:
            continue
        confidence = large[y1:y2, x1:x2].mean()
        across, down = int((x2 - x1) * 0.05), int((y2 - y1) * 0.05)
        found.append(
            ((x1 + across, y1 + down, x2 - x1 - 2 * across, y2 - y1 - 2 * down), confidence)
        )
    return sorted(found)


@pytest.mark.real
@pytest.mark.long("four large networks on two engines")
@pytest.mark.release
@pytest.mark.slow
def test_forty_real_radiographs(files, radiographs, own_home, tmp_path):
    for name, file in files.items():
        lungbox("weights", "add", "reference_" + name.removesuffix("_reference"), file)
    paths = sorted(radiographs.iterdir())
    masks = moving_average_weights(files, np.stack([gray(path) for path in paths]))
    expected = {path.stem: boxes_by_hand(mask) for path, mask in zip(paths, masks, strict=True)}
    varied = {str(boxes) for boxes in expected.values()}
    assert len(varied) > COUNT / 2
    assert sum(len(boxes) for boxes in expected.values()) > COUNT
    same = {}
    for engine in ("keras", "openvino"):
        submitted = predicted(radiographs, engine, tmp_path / engine)
        assert submitted.keys() == expected.keys()
        same[engine] = sum(close(submitted[name], expected[name]) for name in expected)
    assert same["keras"] == COUNT
    # A region may change where two channels are equal to the last digits.
    assert same["openvino"] >= COUNT - 2


def predicted(folder, engine, out):
    arguments = ("--ensemble", "reference", "--submission-size", 1024, "--engine", engine)
    said = lungbox("predict", folder, *arguments, "--output", out)
    assert f"{COUNT} radiographs read" in said
    return read_submission(out / "submission.csv")


def close(prediction, expected):
    """Whether boxes are the same to the pixel, and confidences to the last digit written."""
    boxes = [tuple(map(round, box)) for box in to_xywh(prediction.boxes).tolist()]
    found = sorted(zip(boxes, prediction.scores.tolist(), strict=True))
    if [box for box, _ in found] != [box for box, _ in expected]:
        return False
    return np.allclose([c for _, c in found], [c for _, c in expected], atol=5.1e-5, rtol=0)
