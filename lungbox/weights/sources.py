"""Where weight files come from: a line of the manifest to bytes on this machine."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import requests

from lungbox.weights.download import Advance, SourceError, download

KAGGLE_INPUT = Path("/kaggle/input")


def retrieve(
    source: str, partial: Path, advance: Advance, largest: int | None, known: bool = False
) -> Path:
    """Get the file behind `source`.

    Args:
        source: `https://...`, `gdrive:ID`, `hf:OWNER/REPOSITORY[@REVISION]/PATH` or
            `kaggle:OWNER/DATASET/PATH`.
        partial: where to, with what an earlier try left there.
        advance: is told how far it is.
        largest: more bytes than this are refused.
        known: whether its hash is; see `download`.

    Returns:
        `partial`, or where the file is already.

    Raises:
        SourceError: it is not to be had there.
    """
    scheme = source.partition(":")[0]
    return _SCHEMES[scheme](source, partial, advance, largest, known)


def _https(source: str, partial: Path, advance: Advance, largest: int | None, known: bool) -> Path:
    download(source, partial, advance, largest=largest, known=known)
    return partial


def _hugging_face(
    source: str, partial: Path, advance: Advance, largest: int | None, known: bool
) -> Path:
    owner, repository, path = _three_parts(source)
    repository, _, revision = repository.partition("@")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{endpoint}/{owner}/{repository}/resolve/{revision or 'main'}/{path}"
    download(url, partial, advance, headers, largest, known)
    return partial


def _kaggle(source: str, *_: object) -> Path:
    owner, dataset, path = _three_parts(source)
    attached = KAGGLE_INPUT / dataset / path
    if attached.is_file():
        return attached
    if not find_spec("kagglehub"):
        raise SourceError("it needs kagglehub: pip install kagglehub")
    import kagglehub

    try:
        return Path(kagglehub.dataset_download(f"{owner}/{dataset}", path=path))
    except Exception as error:  # it raises those of several libraries
        raise SourceError(f"kagglehub says: {_first_line(error)}") from error


def _google_drive(
    source: str, partial: Path, advance: Advance, largest: int | None, known: bool
) -> Path:
    import gdown

    def watch(have: int, total: int | None) -> None:
        if largest is not None and max(have, total or 0) > largest:
            raise SourceError(f"it has more than the {largest:,} bytes expected")
        advance(have, total)

    # gdown keeps what it has beside the file, and finds it again; not what it is of.
    output = partial.with_suffix(".gdrive")
    if not known:
        for beginning in output.parent.glob(f"{output.name}????????.part"):
            beginning.unlink(missing_ok=True)
    try:
        gdown.download(
            id=source.removeprefix("gdrive:"),
            output=str(output),
            quiet=True,
            resume=known,
            use_cookies=False,
            timeout=30,
            retries=2,
            progress=watch,
        )
    except SourceError:
        raise
    except Exception as error:  # its own errors, requests' and OSError
        raise SourceError(_drive_reason(error)) from error
    if not output.is_file():
        raise SourceError("Google Drive gave nothing")
    output.replace(partial)
    return partial


def _drive_reason(error: Exception) -> str:
    text = str(error)
    if "Too many users" in text or "quota" in text.lower():
        return "Google Drive's quota for this file is used up; try again in a day"
    if "permission" in text.lower() or "Cannot retrieve the public link" in text:
        return "Google Drive does not hand it out to everyone"
    # gdown wraps what its retries ended with.
    if isinstance(error.__cause__ or error, requests.ConnectionError | requests.Timeout):
        return "no connection to Google Drive; check the network"
    return f"Google Drive: {_first_line(error)}"


def _three_parts(source: str) -> tuple[str, str, str]:
    parts = source.partition(":")[2].split("/", 2)
    if len(parts) < 3 or not all(parts):
        raise SourceError("it is not of the form OWNER/NAME/PATH")
    return parts[0], parts[1], parts[2]


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200]


_SCHEMES: dict[str, Callable[[str, Path, Advance, int | None, bool], Path]] = {
    "http": _https,  # to this machine only; `download` sees to it
    "https": _https,
    "gdrive": _google_drive,
    "hf": _hugging_face,
    "kaggle": _kaggle,
}
