"""A folder of DICOMs to a submission as the reference system does it: python -m
benchmarks.reference_way IMAGE_DIR SUBMISSION.

All images are read and kept, four networks predict all of them one after the other, masks are
averaged, enlarged to 1024 x 1024, and scikit-image finds the boxes. Weights are random, so the
boxes are not worth reading; the time is. `benchmarks.process` runs it.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import pydicom
from skimage.measure import label, regionprops
from skimage.transform import resize

from lungbox.constants import REFERENCE_MIN_BOX_AREA, REFERENCE_SHRINK, RSNA_SIZE

SIDE = 128


def main() -> None:
    from benchmarks.ensembles import REFERENCE
    from lungbox import architecture

    files = sorted(Path(sys.argv[1]).glob("*.dcm"))
    images = np.stack([_image(path) for path in files])
    models = [architecture.build(name, SIDE) for name in REFERENCE]
    maps = np.mean([model.predict(images, verbose=0)["mask"] for model in models], axis=0)
    rows = ["patientId,PredictionString"]
    for path, mask in zip(files, maps.argmax(axis=-1), strict=True):
        rows.append(f"{path.stem},{_boxes(mask)}")
    Path(sys.argv[2]).write_text("\n".join(rows) + "\n")


def _image(path: Path) -> np.ndarray:
    pixels = pydicom.dcmread(path).pixel_array
    return cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)[..., None].astype(
        np.float32
    )


def _boxes(mask: np.ndarray) -> str:
    large = resize(mask.astype(float), (RSNA_SIZE, RSNA_SIZE), order=0, preserve_range=True) > 0.5
    found = []
    for region in regionprops(label(large)):
        top, left, bottom, right = region.bbox
        if region.area_bbox > REFERENCE_MIN_BOX_AREA:
            confidence = large[top:bottom, left:right].mean()
            across, down = (
                int((right - left) * REFERENCE_SHRINK),
                int((bottom - top) * REFERENCE_SHRINK),
            )
            x, y = left + across, top + down
            found.append(f"{confidence:.2f} {x} {y} {right - across - x} {bottom - down - y}")
    return " ".join(found)


if __name__ == "__main__":
    main()
