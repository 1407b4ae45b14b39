"""Losses and metrics; python metrics.py SUBMISSION LABELS checks and scores a submission.

from metrics import IoUBinaryCrossentropy, MeanIoU, rsna_image_score, auc
"""

import sys
from typing import Any

from lungbox.cli.main import main


def __getattr__(name: str) -> Any:
    # Keras is imported when a loss is asked for, and not before.
    from lungbox import metrics

    return getattr(metrics, name)


if __name__ == "__main__":
    main(sys.argv[1:], command_name="score")
