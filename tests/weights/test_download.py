"""Google Drive, Hugging Face and Kaggle, each replaced by a fake on this machine."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
from safetensors.numpy import save

from lungbox.weights import download as download_module
from lungbox.weights.download import SourceError, download
from lungbox.weights.entries import Weights
from lungbox.weights.store import cached, fetch

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
    path = download("gdrive:abc", tmp_path, nothing, None)
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


def test_google_drive_asks_to_confirm_a_large_file(monkeypatch, tmp_path):
    adapter = drive(monkeypatch, SCAN_PAGE)
    seen = []
    path = download("gdrive:abc", tmp_path, lambda have, total: seen.append((have, total)))
    assert path.read_bytes() == CONTENT
    assert "id=abc" in adapter.asked[0]
    assert "confirm=t" in adapter.asked[-1]
    assert seen[-1][0] == len(CONTENT)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (QUOTA_PAGE, "quota for this file is exceeded; try again in a day"),
        (SIGN_IN_PAGE, "is not shared publicly"),
        (requests.ConnectionError("no route"), "no connection to Google Drive"),
    ],
)
def test_google_drive_refuses(monkeypatch, tmp_path, answer, reason):
    drive(monkeypatch, answer)
    with pytest.raises(SourceError, match=reason) as caught:
        download("gdrive:abc", tmp_path, nothing, None)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_google_drive_sends_more_than_expected(monkeypatch, tmp_path):
    drive(monkeypatch, CONTENT)
    with pytest.raises(SourceError, match="more than the 100 bytes"):
        download("gdrive:abc", tmp_path, nothing, 100)


@pytest.mark.parametrize("known", [True, False])
def test_google_drive_resumes_only_where_the_hash_is_known(monkeypatch, tmp_path, known):
    found = []

    def fake(output, resume, **_):
        found.append((resume, [path.name for path in Path(output).parent.iterdir()]))
        Path(output).write_bytes(CONTENT)

    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LUNGBOX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("gdown.download", fake)
    digest = hashlib.sha256(CONTENT).hexdigest() if known else ""
    entry = Weights(
        architecture="unet_lite0", image_size=64, sources=("gdrive:abc",), sha256=digest
    )
    tag = hashlib.sha256(b"gdrive:abc").hexdigest()[:8]
    folder = cached("w", entry).with_name(f".{cached('w', entry).name}.{tag}.partial")
    folder.mkdir(parents=True)
    (folder / "file12345678.part").write_bytes(b"of an interrupted download")
    assert fetch("w", entry).read_bytes() == CONTENT
    assert found == [(known, ["file12345678.part"] if known else [])]
    assert not folder.exists()


@pytest.fixture
def hub(monkeypatch):
    """A local server in place of Hugging Face; the paths requested, with their tokens."""
    constants = pytest.importorskip("huggingface_hub.constants")
    requested = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            requested.append((self.path, self.headers.get("Authorization")))
            found = "absent" not in self.path
            self.send_response(200 if found else 404)
            if not found:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(CONTENT) if found else 0))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(CONTENT)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", root)
        template = root + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", "secret")
        yield requested
        server.shutdown()


@pytest.mark.parametrize(
    ("source", "path"),
    [
        (
            "hf:someone/weights/deep/w.safetensors",
            "/someone/weights/resolve/main/deep/w.safetensors",
        ),
        ("hf:someone/weights@v2/w.safetensors", "/someone/weights/resolve/v2/w.safetensors"),
    ],
)
def test_hugging_face(hub, tmp_path, source, path):
    seen = []
    file = download(source, tmp_path, lambda have, total: seen.append((have, total)))
    assert file.read_bytes() == CONTENT
    assert tmp_path in file.parents
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert (path, "Bearer secret") in hub


def test_hugging_face_refuses(hub, tmp_path):
    with pytest.raises(SourceError, match=r"^Hugging Face: there is no such file \(HTTP 404\)$"):
        download("hf:someone/weights/absent.safetensors", tmp_path, nothing)
    with pytest.raises(SourceError, match=r"12,072 bytes, more than the 100 expected"):
        download("hf:someone/weights/w.safetensors", tmp_path, nothing, 100)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_hugging_face_from_a_mirror_without_https(hub, tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    template = "http://example.org/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(SourceError, match="https"):
        download("hf:someone/weights/w.safetensors", tmp_path, nothing)
    assert not hub


def test_a_librarys_message_without_secrets(monkeypatch, tmp_path):
    def fake(*_, **__):
        raise OSError("refused for url: https://example.org/file?X-Signature=secret\nmore")

    monkeypatch.setattr("gdown.download", fake)
    with pytest.raises(SourceError) as caught:
        download("gdrive:abc", tmp_path, nothing)
    assert str(caught.value) == "Google Drive: refused for url: https://example.org/file"


@pytest.mark.parametrize("source", ["hf:someone", "hf:someone/weights", "kaggle:a//b"])
def test_incomplete_addresses(tmp_path, source):
    with pytest.raises(SourceError, match="OWNER/NAME/PATH"):
        download(source, tmp_path, nothing, None)


def test_kaggle_takes_what_is_attached(monkeypatch, tmp_path):
    attached = tmp_path / "input/weights/w.safetensors"
    attached.parent.mkdir(parents=True)
    attached.write_bytes(CONTENT)
    monkeypatch.setattr(download_module, "KAGGLE_INPUT", tmp_path / "input")
    found = download("kaggle:someone/weights/w.safetensors", tmp_path, nothing, None)
    assert found == attached


def test_kaggle_elsewhere_needs_its_library(monkeypatch, tmp_path):
    monkeypatch.setattr(download_module, "KAGGLE_INPUT", Path("/nowhere"))
    monkeypatch.setattr(download_module, "find_spec", lambda _: None)
    with pytest.raises(SourceError, match=r"pip install 'lungbox\[kaggle\]'"):
        download("kaggle:someone/weights/w.safetensors", tmp_path, nothing, None)
