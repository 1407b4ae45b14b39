"""Small inputs as Kaggle attaches them: the RSNA competition and, of VinBigData, `train.csv`."""

import csv
from pathlib import Path

import cv2
import numpy as np
from pydicom.uid import JPEGBaseline8Bit

from lungbox.constants import RSNA_CLASSES, VINBIGDATA_CLASSES
from lungbox.datasets.rsna import CLASSES, LABELS
from lungbox.radiograph import read
from tests import dicoms
from tests.datasets.kaggle import phantom, write_rsna, write_table

# Of the examples; what the challenge says of the same radiographs.
TRAINED_ON = {"00002061_000.dcm": RSNA_CLASSES[0], "00002954_007.dcm": RSNA_CLASSES[1]}
PREDICTED = ("00000193_019.png", "00010773_019.dcm")
IMAGES = 30


def write_competition(folder: Path, examples: Path) -> Path:
    """The RSNA competition with `IMAGES` phantoms and two real radiographs to train on, and two of
    each to predict."""
    write_rsna(folder, IMAGES)
    for name, category in TRAINED_ON.items():
        identity = Path(name).stem
        _write(folder / f"stage_2_train_images/{identity}.dcm", read(examples / name).pixels)
        _append(folder / LABELS, [identity, "", "", "", "", "0"])
        _append(folder / CLASSES, [identity, category])
    tests = folder / "stage_2_test_images"
    tests.mkdir()
    rows = [["patientId", "PredictionString"]]
    for name in PREDICTED:
        _write(tests / f"{Path(name).stem}.dcm", read(examples / name).pixels)
        rows.append([Path(name).stem, "0.5 0 0 100 100"])
    for number in (100, 101):
        _write(tests / f"test-{number}.dcm", phantom(number, 64).pixels)
        rows.append([f"test-{number}", "0.5 0 0 100 100"])
    write_table(folder / "stage_2_sample_submission.csv", rows)
    return folder


def write_portraits(folder: Path, count: int = 4) -> Path:
    """The competition with files of 96 x 128, each with one box: from a quarter to a half of the
    width, from an eighth to five eighths of the height."""
    images = folder / "stage_2_train_images"
    images.mkdir(parents=True)
    labels = [["patientId", "x", "y", "width", "height", "Target"]]
    classes = [["patientId", "class"]]
    for number in range(count):
        drawn = cv2.resize(phantom(number, 128).pixels, (96, 128))
        _write(images / f"portrait-{number}.dcm", drawn)
        labels.append([f"portrait-{number}", "256", "128", "256", "512", "1"])
        classes.append([f"portrait-{number}", RSNA_CLASSES[2]])
    write_table(folder / LABELS, labels)
    write_table(folder / CLASSES, classes)
    return folder


def write_vinbigdata(path: Path) -> Path:
    """Two images of three readers: one without finding; one with a box all agree on, and one that
    two readers draw apart."""
    rows = [["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]]
    for reader in ("R8", "R9", "R10"):
        rows.append(["empty", VINBIGDATA_CLASSES[14], "14", reader, "", "", "", ""])
        rows.append(["found", VINBIGDATA_CLASSES[3], "3", reader, "100", "200", "500", "400"])
    for reader, left in (("R8", 100), ("R9", 600)):
        corners = [str(left), "500", str(left + 100), "600"]
        rows.append(["found", VINBIGDATA_CLASSES[7], "7", reader, *corners])
    write_table(path, rows)
    return path


def _write(path: Path, pixels: np.ndarray) -> None:
    ds = dicoms.dataset(pixels)
    ds.PatientID = path.stem
    dicoms.write(ds, path, JPEGBaseline8Bit)


def _append(path: Path, row: list[str]) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerow(row)
