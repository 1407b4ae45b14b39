"""Downloads of weight files, each through the library of its source."""

import re
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pooch
import requests

from lungbox.common.backend import EXTRAS
from lungbox.errors import LungboxError

# Receives the number of bytes downloaded and the total, where it is known.
Advance = Callable[[int, int | None], object]
KAGGLE_INPUT = Path("/kaggle/input")
_TIMEOUT = (10.0, 30.0)  # seconds to connect, and without a single byte
_CHUNK = 1 << 16
_RETRIES, _LONGEST_WAIT = 3, 60
_MAX_REDIRECTS = 10
_BUSY = {429, 500, 502, 503, 504}


class SourceError(LungboxError):
    """A source does not provide the file; the message says why, without naming the source."""


def download(
    source: str, folder: Path, advance: Advance, largest: int | None = None, resume: bool = False
) -> Path:
    """Download one source of a weight file.

    Args:
        source: `https://...`, `gdrive:ID`, `hf:OWNER/REPOSITORY[@REVISION]/PATH` or
            `kaggle:OWNER/DATASET/PATH`; `http://` is accepted for localhost.
        folder: where to, with what an interrupted download left there.
        advance: is called with the progress.
        largest: size limit in bytes.
        resume: whether Google Drive may continue an interrupted download, which is safe only where
            the file's hash is known.

    Returns:
        The file, in `folder` or where it already was.

    Raises:
        SourceError: the file is not available there.
    """
    scheme = source.partition(":")[0]
    return _LIBRARIES.get(scheme, _https)(source, folder, advance, largest, resume)


class _HttpDownloader(pooch.HTTPDownloader):
    """Pooch's downloader, with each response checked before its body is read or its redirect
    followed; also the progress bar that pooch reports to."""

    total = 0

    def __init__(self, url: str, advance: Advance, largest: int | None) -> None:
        super().__init__(
            progressbar=self,
            chunk_size=_CHUNK,
            timeout=_TIMEOUT,
            headers={"Accept-Encoding": "identity"},
            hooks={"response": self._check},
        )
        self._url, self._advance, self._largest = url, advance, largest
        self._wait = 0

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> Any:
        time.sleep(self._wait)
        self._redirects = self._wait = 0
        return super().__call__(url, output_file, pooch, check_only)

    def update(self, _: int) -> None:
        """One more chunk was read; pooch counts whole chunks, urllib3 bytes."""
        have = self._response.raw.tell()
        self._check_size(have)
        self._advance(have, self.total or None)

    def reset(self) -> None:
        """Part of pooch's interface of a progress bar."""

    close = reset

    def _check(self, response: requests.Response, **_: object) -> None:
        self._response, status = response, response.status_code
        try:
            if response.is_redirect:
                self._check_redirect(response.url, response.headers["Location"])
            elif status in _BUSY:
                wish = response.headers.get("Retry-After", "")
                self._wait = min(int(wish), _LONGEST_WAIT) if wish.isdigit() else 0
                reason = f"the server is busy (HTTP {status}); try again later"
                raise requests.HTTPError(reason)  # pooch tries again
            elif status != 200:
                raise SourceError(_refusal(status))
            self._check_size(int(response.headers.get("Content-Length", 0)))
        except BaseException:
            response.close()
            raise

    def _check_redirect(self, url: str, location: str) -> None:
        self._redirects += 1
        if self._redirects > _MAX_REDIRECTS:
            raise SourceError(f"it redirects more than {_MAX_REDIRECTS} times")
        try:
            target = urljoin(url, location)
        except ValueError:
            raise SourceError("it redirects to an invalid address") from None
        _check_address(target, self._url)

    def _check_size(self, size: int) -> None:
        if self._largest is not None and size > self._largest:
            self._response.close()
            raise SourceError(f"it has {size:,} bytes, more than the {self._largest:,} expected")


def _https(url: str, folder: Path, advance: Advance, largest: int | None, _: bool) -> Path:
    _check_address(url, url)
    pooch.get_logger().setLevel("WARNING")
    files = pooch.create(
        folder, base_url="", registry={"file": None}, urls={"file": url}, retry_if_failed=_RETRIES
    )
    try:
        return Path(files.fetch("file", downloader=_HttpDownloader(url, advance, largest)))
    except (requests.RequestException, ValueError) as error:
        raise SourceError(_network_reason(error)) from error


def _check_address(url: str, source: str) -> None:
    """Only https, so that nobody on the way can change the file; http and localhost only where the
    source itself is on localhost, so that no server elsewhere reaches services of this machine."""
    parts = urlsplit(url)
    host, start = parts.hostname or "", urlsplit(source).hostname or ""
    if _is_local(host) and not _is_local(start):
        raise SourceError("it redirects to localhost")
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_local(host))):
        raise SourceError("it is not (or redirects away from) https")


def _is_local(host: str) -> bool:
    host = host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refusal(status: int) -> str:
    reasons = {401: "access is denied", 404: "there is no such file"}
    reasons |= {403: reasons[401], 410: reasons[404]}
    return f"{reasons.get(status, 'the server refuses')} (HTTP {status})"


def _network_reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError):
        return str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not valid"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no connection in time; check the network"
    # While the body is read, requests reports a timeout as a lost connection.
    if isinstance(error, requests.exceptions.Timeout) or "Read timed out" in str(error):
        return "the server stopped responding"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was interrupted"
    return "no connection; check the network"


def _hugging_face(
    source: str, folder: Path, advance: Advance, largest: int | None, *_: object
) -> Path:
    owner, repository, path = _three_parts(source)
    repository, *revision = repository.split("@", 1)
    hub = _optional("huggingface_hub")
    from tqdm import tqdm

    class Progress(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            advance(int(self.n), self.total)

    address = hub.hf_hub_url(f"{owner}/{repository}", path)  # of a mirror, where one is set
    _check_address(address, address)
    file: dict[str, Any] = {
        "repo_id": f"{owner}/{repository}",
        "filename": path,
        "revision": revision[0] if revision else None,
        "local_dir": folder,
    }
    try:
        size = hub.hf_hub_download(**file, dry_run=True).file_size
        if largest is not None and (size or 0) > largest:
            raise SourceError(f"it has {size:,} bytes, more than the {largest:,} expected")
        return Path(hub.hf_hub_download(**file, tqdm_class=Progress))
    except SourceError:
        raise
    except Exception as error:  # its own, those of httpx, OSError
        response = getattr(error, "response", None)
        reason = _refusal(response.status_code) if response is not None else _first_line(error)
        raise SourceError(f"Hugging Face: {reason}") from error


def _kaggle(source: str, *_: object) -> Path:
    owner, dataset, path = _three_parts(source)
    attached = KAGGLE_INPUT / dataset / path
    if attached.is_file():
        return attached
    kagglehub = _optional("kagglehub")
    try:
        return Path(kagglehub.dataset_download(f"{owner}/{dataset}", path=path))
    except Exception as error:  # of several libraries
        raise SourceError(f"Kaggle: {_first_line(error)}") from error


def _google_drive(
    source: str, folder: Path, advance: Advance, largest: int | None, resume: bool
) -> Path:
    import gdown

    def progress(have: int, total: int | None) -> None:
        if largest is not None and max(have, total or 0) > largest:
            raise SourceError(f"it has more than the {largest:,} bytes expected")
        advance(have, total)

    file = folder / "file"
    try:
        gdown.download(
            id=source.removeprefix("gdrive:"),
            output=str(file),
            quiet=True,
            resume=resume,
            use_cookies=False,
            timeout=30,
            retries=2,
            progress=progress,
        )
    except SourceError:
        raise
    except Exception as error:  # its own, those of requests, OSError
        raise SourceError(_drive_reason(error)) from error
    if not file.is_file():
        raise SourceError("Google Drive sent no file")
    return file


def _drive_reason(error: Exception) -> str:
    text = str(error)
    if "Too many users" in text or "quota" in text.lower():
        return "Google Drive's download quota for this file is exceeded; try again in a day"
    if "permission" in text.lower() or "Cannot retrieve the public link" in text:
        return "the file is not shared publicly on Google Drive"
    # gdown wraps the error of its last retry.
    if isinstance(error.__cause__ or error, requests.ConnectionError | requests.Timeout):
        return "no connection to Google Drive; check the network"
    return f"Google Drive: {_first_line(error)}"


def _optional(library: str) -> Any:
    if not find_spec(library):
        package = f"'lungbox[{EXTRAS[library]}]'" if library in EXTRAS else library
        raise SourceError(f"it needs {library}: pip install {package}")
    return import_module(library)


def _three_parts(source: str) -> tuple[str, str, str]:
    parts = source.partition(":")[2].split("/", 2)
    if len(parts) < 3 or not all(parts):
        raise SourceError("it is not of the form OWNER/NAME/PATH")
    return parts[0], parts[1], parts[2]


def _first_line(error: Exception) -> str:
    """The first line of a library's message, without query strings, which may hold secrets."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return re.sub(r"(https?://[^\s?]+)\?\S+", r"\1", line)[:200]


_LIBRARIES: dict[str, Callable[[str, Path, Advance, int | None, bool], Path]] = {
    "gdrive": _google_drive,
    "hf": _hugging_face,
    "kaggle": _kaggle,
}
