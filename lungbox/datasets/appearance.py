"""Images of a data set that do not look like upright frontal chest radiographs."""

from lungbox.datasets.cache import PreparedImages
from lungbox.datasets.types import LabelIssue
from lungbox.radiograph import frontal_flag

# Side of the prepared images that are checked: those of the default's recipe, which may be cached.
SIZE = 256


def image_issues(prepared: PreparedImages) -> list[LabelIssue]:
    """An issue for each image that could not be read, and for each that is flagged.

    Args:
        prepared: of any size and preparation; see `radiograph.frontal_flag`.
    """
    issues = [LabelIssue("unreadable file", path, reason) for path, reason in prepared.failed]
    for row, image in enumerate(prepared.dataset.images):
        if flag := frontal_flag(prepared.images(row)):
            issues.append(LabelIssue(f"image that {flag}", image.path, f"{flag}; used as it is"))
    return issues
