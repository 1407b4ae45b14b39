"""One file over HTTP: resumed where it broke off, tried again when the server is busy."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests

from lungbox.errors import LungboxError

# Told the bytes that are there and, where the server says, how many there will be.
Advance = Callable[[int, int | None], object]

_CHUNK = 1 << 16  # what a connection that breaks off can lose
_CONNECT, _SILENCE = 10.0, 30.0  # seconds to connect, and without a single byte
_ATTEMPTS = 4
_MOST_REDIRECTS = 10
_BUSY = {429, 500, 502, 503, 504}
# Seconds before the second try, doubled for each further one.
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0


class SourceError(LungboxError):
    """A source does not give the file; the message says why, without naming the source."""


def download(
    url: str,
    partial: Path,
    advance: Advance,
    headers: dict[str, str] | None = None,
    largest: int | None = None,
    known: bool = False,
) -> None:
    """Fetch `url` into `partial`, which may hold the beginning of it from an earlier try.

    What the server calls this state of the file (`ETag`, else `Last-Modified`) is kept beside the
    beginning, so that what follows is never of another file.

    Args:
        url: `https://...`, or `http://` to this machine.
        partial: grows; it is whole when this returns.
        advance: is told how far it is.
        headers: for instance an access token.
        largest: more bytes than this are refused.
        known: whether its hash is, so that a mixture of two files would be found out. Where it
            is not, a beginning of which the server has not said what it is of is thrown away.

    Raises:
        SourceError: the file is not to be had there, now or at all.
    """
    _check_address(url, url)
    if not known and not _validator_file(partial).exists():
        partial.unlink(missing_ok=True)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _transfer(url, partial, advance, headers or {}, largest)
            _validator_file(partial).unlink(missing_ok=True)
            return
        except _TryAgainError as reason:
            if attempt == _ATTEMPTS:
                raise SourceError(str(reason)) from reason
            time.sleep(min(_LONGEST_WAIT, reason.wait or _pause(attempt)))
        except requests.RequestException as error:
            if attempt == _ATTEMPTS:
                raise SourceError(_network_reason(error)) from error
            time.sleep(_pause(attempt))
        if not known and not _validator_file(partial).exists():
            partial.unlink(missing_ok=True)


def _pause(attempt: int) -> float:
    return _FIRST_WAIT * 2 ** (attempt - 1)


class _TryAgainError(Exception):
    """A fault that may pass; `wait` is the server's own wish, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def _transfer(
    url: str,
    partial: Path,
    advance: Advance,
    headers: dict[str, str],
    largest: int | None,
) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    wanted = {**headers, "Accept-Encoding": "identity"} | _rest(partial, have)
    with _answer(url, wanted) as response:
        if response.status_code == 416:
            _whole_or_wrong(partial, have, response)
            return
        _check_status(response)
        if have and response.status_code != 206:
            have = 0  # the server begins anew
        total = _total(response, have)
        _check_size(total, largest)
        if have:
            _check_same(response, partial)
        with partial.open("ab" if have else "wb") as file:
            if not have:
                _keep_validator(response, partial)
            for chunk in response.iter_content(_CHUNK):
                have += len(chunk)
                _check_size(have, largest)
                file.write(chunk)
                advance(have, total)
    if total is not None and have < total:
        raise _TryAgainError(f"the connection broke off after {have:,} of {total:,} bytes")
    if total is not None and have > total:
        partial.unlink()
        raise SourceError(f"it sent {have:,} bytes after announcing {total:,}")


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    """What the server behind all redirects answers; each address is checked before it is asked."""
    asked = url
    for _ in range(_MOST_REDIRECTS + 1):
        _check_address(asked, url)
        if urlsplit(asked).netloc != urlsplit(url).netloc:
            # An access token is for the source alone.
            headers = {name: value for name, value in headers.items() if name != "Authorization"}
        with _get(asked, headers) as response:
            if not response.is_redirect:
                yield response
                return
            asked = urljoin(asked, response.headers["Location"])
    raise SourceError(f"it redirects more than {_MOST_REDIRECTS} times, in a circle perhaps")


def _validator_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.validator")


def _validator(response: requests.Response) -> str:
    """What the server calls this state of the file; empty where it does not, or only vaguely."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _keep_validator(response: requests.Response, partial: Path) -> None:
    kept = _validator_file(partial)
    if validator := _validator(response):
        kept.write_text(validator, encoding="latin-1")
    else:
        kept.unlink(missing_ok=True)


def _rest(partial: Path, have: int) -> dict[str, str]:
    """The headers that ask for what is missing, or for the whole if it is no longer the same."""
    if not have:
        return {}
    asked = {"Range": f"bytes={have}-"}
    kept = _validator_file(partial)
    return asked | {"If-Range": kept.read_text("latin-1")} if kept.exists() else asked


def _check_same(response: requests.Response, partial: Path) -> None:
    """A server that continues whatever it is asked may be continuing another file."""
    kept, now = _validator_file(partial), _validator(response)
    if kept.exists() and now and now != kept.read_text("latin-1"):
        partial.unlink()
        raise _TryAgainError("the file changed on the server while it was fetched")


def _get(url: str, headers: dict[str, str]) -> requests.Response:
    timeout = (_CONNECT, _SILENCE)
    try:
        return requests.get(
            url, headers=headers, stream=True, timeout=timeout, allow_redirects=False
        )
    except requests.RequestException:
        raise
    except ValueError:  # it looks where a redirect leads, even if it does not go there
        raise SourceError("it redirects to what is no address") from None


def _check_address(url: str, source: str) -> None:
    """Plain HTTP only to this machine: elsewhere anyone on the way can change what arrives. And to
    this machine only where the source itself is on it: no server elsewhere has business here."""
    parts = urlsplit(url)
    host, start = parts.hostname or "", urlsplit(source).hostname or ""
    if _on_this_machine(host) and not _on_this_machine(start):
        raise SourceError("it redirects to this machine itself")
    if not host or not (
        parts.scheme == "https" or (parts.scheme == "http" and _on_this_machine(host))
    ):
        raise SourceError("it is not (or redirects away from) https")


def _on_this_machine(host: str) -> bool:
    if host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status in _BUSY:
        raise _TryAgainError(
            f"the server is busy (HTTP {status}); try again later", _wish(response)
        )
    if status in (401, 403):
        raise SourceError(f"access is refused (HTTP {status})")
    if status in (404, 410):
        raise SourceError(f"there is no such file (HTTP {status})")
    if status not in (200, 206):
        raise SourceError(f"the server answers HTTP {status}")


def _check_size(size: int | None, largest: int | None) -> None:
    if size is not None and largest is not None and size > largest:
        raise SourceError(f"it has {size:,} bytes, more than the {largest:,} expected")


def _wish(response: requests.Response) -> float:
    """`Retry-After` in seconds; 0 where there is none, or where it is a date."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def _total(response: requests.Response, have: int) -> int | None:
    """The size of the whole file, where the server says it."""
    if response.status_code == 206:
        found = re.fullmatch(
            r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", "").strip()
        )
        if not found or int(found[1]) != have:
            raise SourceError("the server answers with another part than was asked for")
        return int(found[2])
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _whole_or_wrong(partial: Path, have: int, response: requests.Response) -> None:
    """The server has nothing beyond what is there: either that is all, or it is another file."""
    found = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", "").strip())
    if found and int(found[1]) == have:
        return
    partial.unlink()
    raise _TryAgainError("the beginning fetched earlier is not of this file")


def _network_reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate cannot be checked"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no connection in time; check the network"
    # While the body is read, requests reports silence as a lost connection.
    if isinstance(error, requests.exceptions.Timeout) or "Read timed out" in str(error):
        return "the server went silent"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return "no connection; check the network"
