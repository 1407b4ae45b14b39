"""Downloads from servers that fail: the right file or a clear message, nothing else."""

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import requests
from safetensors.numpy import save

import lungbox.weights.download as download_module
from lungbox.weights.download import SourceError, download
from lungbox.weights.entries import Weights
from lungbox.weights.formats.safetensors import WeightsError
from lungbox.weights.manifest import own_path, read_manifest
from lungbox.weights.store import (
    PINS,
    cached,
    expected_pin,
    fetch,
    read_pins,
    sha256,
)
from tests.conftest import ROOT
from tests.weights.server import Behaviour, Server

CONTENT = save({"a": np.arange(30_000, dtype="float32")})


def nothing(*_: object) -> None:
    pass


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LUNGBOX_HOME", str(tmp_path / "home"))
    # Pooch waits a second before its first retry.
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=nothing))
    monkeypatch.setattr(download_module, "_TIMEOUT", (0.5, 0.5))
    monkeypatch.setattr(download_module, "_CHUNK", 4096)


def weights(*sources: str, known: bool = True) -> Weights:
    facts = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "bytes": len(CONTENT)}
    return Weights(
        architecture="unet_lite0", image_size=64, sources=sources, **(facts if known else {})
    )


def kept(entry: Weights) -> list[str]:
    """What is in the cache besides locks and partial downloads."""
    folder = cached("w", entry).parent
    return sorted(p.name for p in folder.glob("*") if not p.name.startswith("."))


def partial(entry: Weights) -> list[Path]:
    return list(cached("w", entry).parent.glob(".*.partial"))


def test_a_file_is_fetched_once(tmp_path):
    with Server(Behaviour(CONTENT)) as server:
        entry = weights(server.url)
        seen = []
        path = fetch("w", entry, lambda source: lambda have, total: seen.append((have, total)))
        assert path.read_bytes() == CONTENT
        assert seen[-1] == (len(CONTENT), len(CONTENT))
        assert fetch("w", entry) == path
        assert server.behaviour.requests == 1
    assert kept(entry) == [path.name]
    assert not partial(entry)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(status):
    with Server(Behaviour(CONTENT, statuses=[status, status])) as server:
        assert fetch("w", weights(server.url)).read_bytes() == CONTENT
        assert server.behaviour.requests == 3


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_stays_busy(status):
    with (
        Server(Behaviour(CONTENT, statuses=[status] * 9)) as server,
        pytest.raises(WeightsError, match=rf"busy \(HTTP {status}\)"),
    ):
        fetch("w", weights(server.url))


def test_the_servers_wish_is_respected():
    wish = Behaviour(CONTENT, statuses=[429], headers={"Retry-After": "1"})
    with Server(wish) as server:
        started = time.monotonic()
        fetch("w", weights(server.url))
        assert time.monotonic() - started >= 1


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "access is denied"),
        (403, "access is denied"),
        (404, "no such file"),
        (418, "HTTP 418"),
    ],
)
def test_refusals_are_final(status, reason):
    with Server(Behaviour(CONTENT, statuses=[status])) as server:
        entry = weights(server.url)
        with pytest.raises(WeightsError, match=reason):
            fetch("w", entry)
        assert server.behaviour.requests == 1
    assert kept(entry) == []


def test_an_interrupted_download_is_tried_again():
    with Server(Behaviour(CONTENT, breaks=[40_000, 30_000])) as server:
        assert fetch("w", weights(server.url)).read_bytes() == CONTENT
        assert server.behaviour.requests == 3


def test_a_download_that_is_always_interrupted():
    with Server(Behaviour(CONTENT, breaks=[40_000] * 9)) as server:
        entry = weights(server.url)
        with pytest.raises(WeightsError, match="the connection was interrupted"):
            fetch("w", entry)
        assert server.behaviour.requests == 4
        assert kept(entry) == []
        assert not partial(entry)


def test_a_server_that_stops_responding_is_tried_again():
    with Server(Behaviour(CONTENT, stalls=[50_000])) as server:
        assert fetch("w", weights(server.url)).read_bytes() == CONTENT


def test_a_server_that_stays_silent():
    with (
        Server(Behaviour(CONTENT, stalls=[0] * 9)) as server,
        pytest.raises(WeightsError, match=r"stopped responding|interrupted"),
    ):
        fetch("w", weights(server.url))


def test_an_announced_length_that_is_too_long():
    lie = Behaviour(CONTENT, announced=len(CONTENT) + 999)
    with Server(lie) as server, pytest.raises(WeightsError, match=r"more than the [\d,]+ expected"):
        fetch("w", weights(server.url))


def test_a_long_lie_about_a_file_of_unknown_size():
    """Nobody knows its hash: what ends before its announced length is never taken for whole."""
    lie = Behaviour(CONTENT, announced=len(CONTENT) + 999)
    with Server(lie) as server:
        entry = weights(server.url, known=False)
        with pytest.raises(WeightsError, match="interrupted"):
            fetch("w", entry)
        assert kept(entry) == []


def test_an_announced_length_that_is_too_short():
    with Server(Behaviour(CONTENT, announced=1000)) as server:
        entry = weights(server.url)
        with pytest.raises(WeightsError, match="instead of"):
            fetch("w", entry)
        assert kept(entry) == []
        assert not partial(entry)


def test_a_tampered_file_is_refused():
    tampered = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with Server(Behaviour(tampered)) as server:
        entry = weights(server.url)
        with pytest.raises(WeightsError, match="SHA-256 differs"):
            fetch("w", entry)
        assert kept(entry) == []
        assert not partial(entry)


def test_redirects_are_followed():
    with Server(Behaviour(CONTENT)) as target:
        there = Behaviour(redirects=f"{target.root}/elsewhere")
        with Server(there) as server:
            assert fetch("w", weights(server.url)).read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["http://example.org/file", "ftp://example.org/file"])
def test_only_https_leaves_this_machine(tmp_path, url):
    with pytest.raises(SourceError, match="https"):
        download(url, tmp_path, nothing)


@pytest.fixture
def internet(monkeypatch):
    """An internet of redirects, by address; what was asked for, with its Authorization header."""
    asked: list[tuple[str, str | None]] = []
    redirects: dict[str, str] = {}

    def send(_, request, **__):
        asked.append((request.url, request.headers.get("Authorization")))
        answer = requests.Response()
        answer.url, answer.request, answer.raw = request.url, request, io.BytesIO(CONTENT)
        answer.status_code = 302 if request.url in redirects else 200
        if request.url in redirects:
            answer.headers["Location"] = redirects[request.url]
        return answer

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    monkeypatch.setenv("NO_PROXY", "*")
    return asked, redirects


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://example.net/file", "redirects away from"),
        ("ftp://example.net/file", "redirects away from"),
        ("file:///etc/passwd", "redirects away from"),
        ("http://127.0.0.1:8000/file", "redirects to localhost"),
        ("https://localhost/file", "redirects to localhost"),
        ("https://[::1]/file", "redirects to localhost"),
        ("//0.0.0.0/file", "redirects to localhost"),
        ("https://[::1/file", "an invalid address"),
    ],
)
def test_no_address_is_asked_before_it_is_checked(tmp_path, internet, location, reason):
    """Also one that an allowed one leads to."""
    asked, redirects = internet
    redirects["https://example.org/file"] = "https://example.com/there"
    redirects["https://example.com/there"] = location
    with pytest.raises(SourceError, match=reason):
        download("https://example.org/file", tmp_path, nothing)
    assert [url for url, _ in asked] == ["https://example.org/file", "https://example.com/there"]
    assert not list(tmp_path.iterdir())


def test_a_password_goes_to_the_source_alone(tmp_path, internet, monkeypatch):
    asked, redirects = internet
    redirects["https://example.org/file"] = "/moved"
    redirects["https://example.org/moved"] = "https://storage.example.com/signed"
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine example.org login user password secret")
    path = download("https://example.org/file", tmp_path, nothing)
    assert asked == [
        ("https://example.org/file", "Basic dXNlcjpzZWNyZXQ="),
        ("https://example.org/moved", "Basic dXNlcjpzZWNyZXQ="),
        ("https://storage.example.com/signed", None),
    ]
    assert path.read_bytes() == CONTENT


def test_a_circle_of_redirects_ends():
    with Server(Behaviour(CONTENT, redirects="/file")) as server:
        entry = weights(server.url)
        with pytest.raises(WeightsError, match="it redirects more than 10 times"):
            fetch("w", entry)
        assert server.behaviour.requests == 11


def test_no_server():
    with Server(Behaviour()) as server:
        url = server.url
    with pytest.raises(WeightsError, match="no connection"):
        fetch("w", weights(url))


def test_sources_are_tried_in_order(tmp_path):
    good = tmp_path / "w.safetensors"
    good.write_bytes(CONTENT)
    with Server(Behaviour(CONTENT, statuses=[404])) as bad, Server(Behaviour(CONTENT)) as other:
        asked = []
        path = fetch(
            "w", weights(bad.url, other.url), lambda source: asked.append(source) or nothing
        )
        assert asked == [bad.url, other.url]
        assert path.read_bytes() == CONTENT


def test_every_source_has_its_sentence():
    with Server(Behaviour(statuses=[404])) as one, Server(Behaviour(statuses=[403])) as two:
        entry = weights("file:/nowhere/w.safetensors", one.url, two.url)
        with pytest.raises(WeightsError) as caught:
            fetch("w", entry)
        lines = str(caught.value).splitlines()
        assert lines[0] == "the weights w are unavailable:"
        assert [line.split(": ")[-1] for line in lines[1:]] == [
            "there is no such file",
            "there is no such file (HTTP 404)",
            "access is denied (HTTP 403)",
            "python -m lungbox weights add w FILE",
        ]


def test_offline(monkeypatch):
    with Server(Behaviour(CONTENT)) as server:
        entry = weights(server.url)
        monkeypatch.setenv("LUNGBOX_OFFLINE", "1")
        with pytest.raises(WeightsError, match="LUNGBOX_OFFLINE is set") as caught:
            fetch("w", entry)
        assert "LUNGBOX_BUNDLE" in str(caught.value)
        assert "python -m lungbox weights add w FILE" in str(caught.value)
        assert server.behaviour.requests == 0
        monkeypatch.setenv("LUNGBOX_OFFLINE", "0")
        fetch("w", entry)
        monkeypatch.setenv("LUNGBOX_OFFLINE", "1")
        assert fetch("w", entry).read_bytes() == CONTENT


def test_an_unknown_hash_is_pinned(tmp_path):
    with Server(Behaviour(CONTENT)) as server:
        entry = weights(server.url, known=False)
        path = fetch("w", entry)
        pinned = expected_pin("w", entry)
        assert (pinned.sha256, pinned.bytes) == (sha256(path), len(CONTENT))
        path.unlink()
        server.behaviour.content = CONTENT[:-4] + b"\0\0\0\1"
        with pytest.raises(WeightsError, match=r"differs.* first downloaded.*weights remove w"):
            fetch("w", entry)
        assert kept(entry) == []
        server.behaviour.content = CONTENT
        assert fetch("w", entry).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (
            b"<!DOCTYPE html><p>Sorry, the download quota for this file is exceeded",
            "quota is exceeded",
        ),
        (b"\n<html>Access denied by your administrator</html>", "web page instead of the file"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_pages_in_place_of_a_file(page, reason, known):
    with Server(Behaviour(page + b" " * 200_000 if known else page)) as server:
        entry = weights(server.url, known=known)
        with pytest.raises(WeightsError, match=reason if not known else "more than|web page|quota"):
            fetch("w", entry)
        assert kept(entry) == []


_FETCHING = (
    "import sys\n"
    "from lungbox.weights import download\n"
    "download._CHUNK = 4096\n"
    "from lungbox.weights.store import fetch\n"
    "from lungbox.weights.manifest import Weights\n"
    "print(fetch('w', Weights.model_validate_json(sys.argv[1])))\n"
)


def process(program: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_download_once():
    with Server(Behaviour(CONTENT, pace=0.02)) as server:
        entry = weights(server.url)
        both = [process(_FETCHING, entry.model_dump_json()) for _ in "ab"]
        while not partial(entry):
            time.sleep(0.01)
        paths = [one.communicate(timeout=60)[0].strip() for one in both]
        assert paths == [str(cached("w", entry))] * 2
        assert [one.returncode for one in both] == [0, 0]
        assert server.behaviour.requests == 1


def test_processes_that_pin_at_once_lose_nothing():
    program = (
        "import sys\n"
        "from lungbox.weights.store import Pin, edit_pins\n"
        "for i in range(25):\n"
        "    with edit_pins() as pins: pins[f'{sys.argv[1]}-{i}'] = Pin('0' * 64)\n"
    )
    both = [process(program, name) for name in "abc"]
    assert [one.communicate(timeout=60)[0] for one in both] == ["", "", ""]
    assert [one.returncode for one in both] == [0, 0, 0]
    assert len(read_pins(Path(os.environ["LUNGBOX_HOME"]) / PINS)) == 75


def test_processes_that_register_at_once_lose_nothing():
    program = (
        "import sys\n"
        "from lungbox.weights.manifest import Ensemble, Weights, register\n"
        "for i in range(15):\n"
        "    name = f'{sys.argv[1]}-{i}'\n"
        "    register(name, Weights.model_validate_json(sys.argv[2]), Ensemble(members=(name,)))\n"
    )
    both = [process(program, name, weights().model_dump_json()) for name in "abc"]
    assert [one.communicate(timeout=60)[0] for one in both] == ["", "", ""]
    assert [one.returncode for one in both] == [0, 0, 0]
    assert len(read_manifest(own_path()).weights) == 45


def test_a_short_announcement_of_an_unknown_file_is_no_file():
    """Nobody knows its hash: the header of the file itself tells that it is cut off."""
    with Server(Behaviour(CONTENT, announced=len(CONTENT) - 4000)) as server:
        entry = weights(server.url, known=False)
        with pytest.raises(WeightsError, match="not a readable safetensors file"):
            fetch("w", entry)
        assert expected_pin("w", entry) is None
        assert kept(entry) == []
        server.behaviour.announced = None
        assert fetch("w", entry).read_bytes() == CONTENT


def test_a_cut_off_keras_file_is_no_file(tmp_path):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file.create_group("dense").attrs["weight_names"] = [b"kernel:0"]
        file["dense/kernel:0"] = np.zeros((100, 100), "float32")
    whole = path.read_bytes()
    with Server(Behaviour(whole, announced=len(whole) - 3000)) as server:
        entry = weights(server.url, known=False).model_copy(update={"format": "keras2"})
        with pytest.raises(WeightsError, match="truncated file"):
            fetch("w", entry)
        server.behaviour.content, server.behaviour.announced = whole + b"more", None
        with pytest.raises(WeightsError, match=r"instead of"):
            fetch("w", entry)
        assert expected_pin("w", entry) is None
        server.behaviour.content = whole
        assert fetch("w", entry).read_bytes() == whole


@pytest.mark.parametrize("form", ["safetensors", "keras2"])
def test_an_unknown_file_that_is_not_finite_is_not_pinned(tmp_path, form):
    """A file whose hash is known is what it was when that was written down; this one is not."""
    values = np.arange(30_000, dtype="float32")
    values[7] = np.nan
    if form == "safetensors":
        content = save({"a": values})
    else:
        with h5py.File(tmp_path / "w.h5", "w") as file:
            file.attrs["layer_names"] = [b"dense"]
            file.create_group("dense").attrs["weight_names"] = [b"a"]
            file["dense/a"] = values
        content = (tmp_path / "w.h5").read_bytes()
    with Server(Behaviour(content)) as server:
        entry = weights(server.url, known=False).model_copy(update={"format": form})
        with pytest.raises(WeightsError, match="a holds NaN or infinity in 1 of 30,000 values"):
            fetch("w", entry)
    assert expected_pin("w", entry) is None
    assert kept(entry) == []


def test_an_array_far_larger_than_its_file(tmp_path):
    """HDF5 keeps what was never written in no bytes at all; nobody reads terabytes of it."""
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file.create_group("dense").attrs["weight_names"] = [b"a"]
        file.create_dataset("dense/a", (1 << 40,), "float32", chunks=(1 << 20,))
    with Server(Behaviour((tmp_path / "w.h5").read_bytes())) as server:
        entry = weights(server.url, known=False).model_copy(update={"format": "keras2"})
        with pytest.raises(WeightsError, match="more than any network has"):
            fetch("w", entry)


NEWER = save({"a": np.arange(30_000, dtype="float32") + 1})


@pytest.mark.parametrize("known", [True, False])
def test_two_versions_of_a_file_are_never_mixed(known):
    """The file changes on the server after an interrupted download."""
    with Server(Behaviour(NEWER, breaks=[40_000], then=CONTENT)) as server:
        assert fetch("w", weights(server.url, known=known)).read_bytes() == CONTENT


def test_a_killed_download_leaves_no_file():
    big = save({"a": np.frombuffer(random.Random(1).randbytes(400_000), "uint8")})
    with Server(Behaviour(big, pace=0.004)) as server:
        entry = weights(server.url).model_copy(
            update={"sha256": hashlib.sha256(big).hexdigest(), "bytes": len(big)}
        )
        running = process(_FETCHING, entry.model_dump_json())
        while not any(path.stat().st_size > 100_000 for path in parts(entry)):
            assert running.poll() is None
            time.sleep(0.01)
        os.kill(running.pid, signal.SIGKILL)
        running.communicate()
        assert kept(entry) == []
        server.behaviour.pace = 0
        assert fetch("w", entry).read_bytes() == big
    assert not partial(entry)


def parts(entry: Weights) -> list[Path]:
    return [path for folder in partial(entry) for path in folder.iterdir()]


def test_a_bundle_serves_where_there_is_no_network(tmp_path, monkeypatch):
    from lungbox.weights.bundle import bundle
    from lungbox.weights.entries import Ensemble
    from lungbox.weights.manifest import load_manifest, register

    with Server(Behaviour(CONTENT)) as server:
        register("w", weights(server.url, known=False), Ensemble(members=("w",), threshold=0.3))
        files = bundle(tmp_path / "bundle", ["w"], wheels=False)
        assert [path.read_bytes() for path in files] == [CONTENT]
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "other/cache"))
    monkeypatch.setenv("LUNGBOX_HOME", str(tmp_path / "other/home"))
    monkeypatch.setenv("LUNGBOX_BUNDLE", str(tmp_path / "bundle"))
    monkeypatch.setenv("LUNGBOX_OFFLINE", "1")
    manifest = load_manifest()
    assert manifest.ensemble("w").threshold == 0.3
    path = fetch("w", manifest.weights["w"])
    assert path.parent == tmp_path / "bundle"
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(WeightsError, match="differs from the file first downloaded"):
        fetch("w", manifest.weights["w"])
