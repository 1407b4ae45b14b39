"""Google Drive, Hugging Face and Kaggle, answered by this machine in their place."""

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
from safetensors.numpy import save

from lungbox.weights import sources
from lungbox.weights.download import SourceError
from lungbox.weights.sources import retrieve
from tests.weights.server import Behaviour, Server

CONTENT = save({"a": np.arange(3_000, dtype="float32")})
# What Google Drive sends instead of a file; only the lines that matter.
SCAN_PAGE = b"""<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>
<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">
<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="abc">
<input type="hidden" name="confirm" value="t"></form></html>""".replace(b"\n", b" ")
QUOTA_PAGE = b"""<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please
try accessing the file again later.</p></html>""".replace(b"\n", b" ")
SIGN_IN_PAGE = b"<!DOCTYPE html><html><title>Google Drive: Sign-in</title></html>"


def nothing(*_: object) -> None:
    pass


class Drive(requests.adapters.BaseAdapter):
    """Answers for Google: a page or a file at `uc`, a file at `download`."""

    def __init__(self, first: bytes | Exception) -> None:
        super().__init__()
        self.first = first
        self.asked: list[str] = []

    def send(self, request, **_):
        self.asked.append(request.url)
        confirmed = "drive.usercontent.google.com" in request.url and "confirm=t" in request.url
        content = CONTENT if confirmed else self.first
        if isinstance(content, Exception):
            raise content
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, request.url
        response.raw = BytesIO(content)
        if content.startswith(b"<!DOCTYPE"):
            response.headers["Content-Type"] = "text/html; charset=utf-8"
        else:
            response.headers["Content-Type"] = "application/octet-stream"
            response.headers["Content-Disposition"] = 'attachment; filename="weights.h5"'
        response.headers["Content-Length"] = str(len(content))
        return response

    def close(self) -> None:
        pass


def drive(monkeypatch, first):
    adapter = Drive(first)
    monkeypatch.setattr(requests.Session, "get_adapter", lambda *_, **__: adapter)
    monkeypatch.setattr("time.sleep", nothing)
    return adapter


def test_google_drive_gives_a_small_file(monkeypatch, tmp_path):
    drive(monkeypatch, CONTENT)
    path = retrieve("gdrive:abc", tmp_path / "w.partial", nothing, None)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["w.partial"]


def test_google_drive_asks_to_confirm_a_large_file(monkeypatch, tmp_path):
    adapter = drive(monkeypatch, SCAN_PAGE)
    seen = []
    partial = tmp_path / "w.partial"
    retrieve("gdrive:abc", partial, lambda have, total: seen.append((have, total)), None)
    assert partial.read_bytes() == CONTENT
    assert "id=abc" in adapter.asked[0]
    assert "confirm=t" in adapter.asked[-1]
    assert seen[-1][0] == len(CONTENT)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (QUOTA_PAGE, "quota for this file is used up; try again in a day"),
        (SIGN_IN_PAGE, "does not hand it out to everyone"),
        (requests.ConnectionError("no route"), "no connection to Google Drive"),
    ],
)
def test_google_drive_refuses(monkeypatch, tmp_path, answer, reason):
    drive(monkeypatch, answer)
    with pytest.raises(SourceError, match=reason) as caught:
        retrieve("gdrive:abc", tmp_path / "w.partial", nothing, None)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w.partial").exists()


def test_google_drive_sends_more_than_expected(monkeypatch, tmp_path):
    drive(monkeypatch, CONTENT)
    with pytest.raises(SourceError, match="more than the 100 bytes"):
        retrieve("gdrive:abc", tmp_path / "w.partial", nothing, 100)


@pytest.mark.parametrize("known", [True, False])
def test_google_drive_goes_on_only_where_the_hash_is_known(monkeypatch, tmp_path, known):
    beginning = tmp_path / "w.gdrive12345678.part"
    beginning.write_bytes(b"of another file")
    asked = []

    def download(output, resume, **_):
        asked.append(resume)
        Path(output).write_bytes(CONTENT)

    monkeypatch.setattr("gdown.download", download)
    retrieve("gdrive:abc", tmp_path / "w.partial", nothing, None, known)
    assert asked == [known]
    assert beginning.exists() == known


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("hf:someone/weights/deep/w.safetensors", "/someone/weights/resolve/main/deep/w.safe"),
        ("hf:someone/weights@v2/w.safetensors", "/someone/weights/resolve/v2/w.safetensors"),
    ],
)
def test_hugging_face_addresses(monkeypatch, tmp_path, source, asked):
    found = []

    def download(url, partial, advance, headers, largest, known):
        found.append((url, headers))

    monkeypatch.setattr(sources, "download", download)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setenv("HF_TOKEN", "secret")
    retrieve(source, tmp_path / "w", nothing, None)
    ((url, headers),) = found
    assert re.match(rf"https://huggingface\.co{re.escape(asked)}", url)
    assert headers == {"Authorization": "Bearer secret"}


def test_hugging_face_from_a_mirror(monkeypatch, tmp_path):
    with Server(Behaviour(CONTENT)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.root)
        retrieve("hf:someone/weights/w.safetensors", tmp_path / "w", nothing, None)
    assert (tmp_path / "w").read_bytes() == CONTENT


@pytest.mark.parametrize("source", ["hf:someone", "hf:someone/weights", "kaggle:a//b"])
def test_incomplete_addresses(tmp_path, source):
    with pytest.raises(SourceError, match="OWNER/NAME/PATH"):
        retrieve(source, tmp_path / "w", nothing, None)


def test_kaggle_takes_what_is_attached(monkeypatch, tmp_path):
    attached = tmp_path / "input/weights/w.safetensors"
    attached.parent.mkdir(parents=True)
    attached.write_bytes(CONTENT)
    monkeypatch.setattr(sources, "KAGGLE_INPUT", tmp_path / "input")
    found = retrieve("kaggle:someone/weights/w.safetensors", tmp_path / "w", nothing, None)
    assert found == attached


def test_kaggle_elsewhere_needs_its_library(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "KAGGLE_INPUT", Path("/nowhere"))
    monkeypatch.setattr(sources, "find_spec", lambda _: None)
    with pytest.raises(SourceError, match="pip install kagglehub"):
        retrieve("kaggle:someone/weights/w.safetensors", tmp_path / "w", nothing, None)
