"""Small folders exactly as Kaggle ships the challenges: DICOM files of phantoms, and CSVs."""

import csv
from pathlib import Path

import numpy as np
from pydicom import config
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from lungbox.boxes import geometry
from lungbox.constants import RSNA_CLASSES, RSNA_SIZE, SIIM_CLASSES
from lungbox.datasets.phantom import Phantom, draw
from tests import dicoms

AGES = ("058Y", "58", "018M", "148Y", "")
SIIM_TABLE = ("id", "boxes", "label", "StudyInstanceUID")


def phantom(number: int, size: int) -> Phantom:
    return draw(size, number % 3, np.random.default_rng((7, number)))


def write_rsna(folder: Path, count: int, size: int = 64) -> Path:
    """`count` images without, with one and with two opacities in turn, and no images.csv."""
    images = folder / "stage_2_train_images"
    images.mkdir(parents=True)
    labels = [["patientId", "x", "y", "width", "height", "Target"]]
    classes = [["patientId", "class"]]
    for number in range(count):
        name, drawn = f"{number:04d}e1f0-{number}", phantom(number, size)
        ds = dicoms.dataset(drawn.pixels)
        ds.PatientID, ds.PatientSex = name, "MFO"[number % 3]
        ds.ViewPosition = ("AP", "PA")[number % 2]
        with config.disable_value_validation():  # the challenge's ages have no unit
            ds.PatientAge = AGES[number % 5]
            dicoms.write(ds, images / f"{name}.dcm", JPEGBaseline8Bit)
        boxes = geometry.scale(drawn.boxes, (size, size), (RSNA_SIZE, RSNA_SIZE))
        for box in geometry.to_xywh(boxes).tolist():
            labels.append([name, *map(str, box), "1"])
            classes.append([name, RSNA_CLASSES[2]])
        if not len(boxes):
            labels.append([name, "", "", "", "", "0"])
            classes.append([name, RSNA_CLASSES[number % 2]])
    write_table(folder / "stage_2_train_labels.csv", labels)
    write_table(folder / "stage_2_detailed_class_info.csv", classes)
    return folder


def write_siim(folder: Path, count: int) -> Path:
    """`count` images of 96 x 64 pixels, two a study and two studies a patient.

    Image n has the opacities of phantom n; study n has class n.
    """
    images, studies = [list(SIIM_TABLE)], [["id", *SIIM_CLASSES]]
    for number in range(count):
        study, name = f"study{number // 2}", f"{number:012x}"
        drawn = phantom(number, 64)
        pixels = np.pad(drawn.pixels, ((0, 0), (16, 16)))
        ds = dicoms.dataset(pixels)
        ds.StudyInstanceUID, ds.PatientID = f"1.2.{number // 2}", f"patient{number // 4}"
        place = folder / f"train/{study}/series{number}/{name}.dcm"
        place.parent.mkdir(parents=True)
        dicoms.write(ds, place, ExplicitVRLittleEndian)
        boxes = [
            dict(zip(("x", "y", "width", "height"), box, strict=True))
            for box in (geometry.to_xywh(drawn.boxes) + np.array([16, 0, 0, 0])).tolist()
        ]
        images.append([f"{name}_image", str(boxes) if boxes else "", "", study])
        if number % 2 == 0:
            marks = [str(int(place == number // 2 % 4)) for place in range(4)]
            studies.append([f"{study}_study", *marks])
    write_table(folder / "train_image_level.csv", images)
    write_table(folder / "train_study_level.csv", studies)
    return folder


def write_table(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
