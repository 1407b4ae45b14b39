"""Constants that must be the same everywhere, with their sources.

Settings of a training run are in its recipe, those of an ensemble in the manifest.
"""

from typing import Final

# Classes, in the order of the mask's channels.
BACKGROUND: Final = 0
OPACITY: Final = 1
CLASS_NAMES: Final = ("background", "lung opacity")

# Gray levels of a prepared radiograph.
GRAY_LEVELS: Final = 256

# A network's image score where it has no image head: the mean of this share of its mask's most
# certain pixels.
IMAGE_SCORE_SHARE: Final = 0.005
# The same where an ensemble takes its image score from the mask instead of image heads.
MASK_SCORE_SHARE: Final = 0.05

# Limits of a radiograph's file; larger ones are refused before they are decoded, so that no file
# takes more than 1.5 GB or 30 seconds (docs/formats.md).
# 100 megapixels: five times the largest digital detector, more than any film scanner.
MAX_PIXELS: Final = 100_000_000
# Longer side divided by the shorter; an image of the full spine or leg has 4.
MAX_ASPECT: Final = 16
# 16 bits for each of those pixels, and a header.
MAX_FILE_BYTES: Final = 2**28
# Memory while one file is decoded: 10 bytes for each of those pixels.
MAX_DECODING_BYTES: Final = 1_000_000_000
# The same for all threads together: four of a digital detector's largest, or sixty of the RSNA
# challenge's. A larger file is decoded alone.
DECODING_BYTES_AT_ONCE: Final = 640_000_000
# Characters of a message or flag in result tables.
MAX_REASON: Final = 500
MAX_FLAG: Final = 100

# The RSNA Pneumonia Detection Challenge (2018): the space its labels are drawn in, and the
# thresholds of its metric.
# https://www.kaggle.com/competitions/rsna-pneumonia-detection-challenge/overview/evaluation
RSNA_SIZE: Final = 1024
RSNA_IOU_THRESHOLDS: Final = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
RSNA_CLASSES: Final = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")
SIIM_CLASSES: Final = (
    "Negative for Pneumonia",
    "Typical Appearance",
    "Indeterminate Appearance",
    "Atypical Appearance",
)
# Class mix of the challenge's 26,684 training images.
RSNA_CLASS_MIX: Final = {
    "Normal": 8851 / 26684,
    "No Lung Opacity / Not Normal": 11821 / 26684,
    "Lung Opacity": 6012 / 26684,
}

# NIH ChestX-ray14's findings, text-mined from reports (Wang et al., CVPR 2017).
NIH_FINDINGS: Final = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)

# VinBigData Chest X-ray Abnormalities Detection (2021): its classes by number, and its metric,
# PASCAL VOC 2010's mean average precision at IoU > 0.4.
# https://www.kaggle.com/competitions/vinbigdata-chest-xray-abnormalities-detection
VINBIGDATA_CLASSES: Final = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "No finding",
)
VINBIGDATA_NO_FINDING: Final = 14
VINBIGDATA_IOU_THRESHOLD: Final = 0.4

# The value of an image-level label that is not known, beside probabilities 0-1.
UNKNOWN: Final = -1.0

# Labelled data is split into this many parts by patient, numbered from 0.
FOLDS: Final = 5

# The reference system (four Keras networks averaged; private score 0.1134).
REFERENCE_MIN_BOX_AREA: Final = 25_000  # pixels of its bounding box, in 1024 space
REFERENCE_SHRINK: Final = 0.05  # share of the width and height taken off EACH side

# Endings that are not part of a radiograph's identity, in any case.
IMAGE_ENDINGS: Final = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")

RESEARCH_USE: Final = "Research use only. Not a medical device; not for diagnosis."
