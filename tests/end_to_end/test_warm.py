"""What a run imports, and how much memory it takes."""

import json
import subprocess
import sys

import pytest

from lungbox.inference.files import find_image_files
from tests.conftest import ROOT

# A run that says at its end what has been imported, and its peak of memory in megabytes.
_CODE = r"""
import json, re, sys
from pathlib import Path
from lungbox.cli import main as cli
try:
    cli.main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
imported = sorted({"keras", "tensorflow", "jax", "torch", "skimage"} & set(sys.modules))
# Not `ru_maxrss`, which begins with the memory of whoever started the process.
status = Path("/proc/self/status").read_text()
peak = int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1024
print(json.dumps({"imported": imported, "megabytes": peak}))
"""


def predict(images, output, *options) -> dict:
    ran = subprocess.run(
        [sys.executable, "-c", _CODE, "predict", str(images), "--output", str(output), *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.fixture
def times(examples, tmp_path):
    """Folders of the examples, each as often as asked."""
    files = [source.path for source in find_image_files(examples)[0]]

    def made(count):
        folder = tmp_path / f"{count}-times"
        folder.mkdir()
        for number in range(count):
            for path in files:
                (folder / f"{number:03d}-{path.name}").symlink_to(path)
        return folder

    return made


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it is read from /proc")
def test_no_framework_and_no_more_memory_for_ten_times_as_many(times, tmp_path):
    few, many = times(5), times(50)
    predict(few, tmp_path / "cold")
    warm, grown = predict(few, tmp_path / "warm"), predict(many, tmp_path / "grown")
    assert warm["imported"] == grown["imported"] == []
    assert grown["megabytes"] < 1000
    assert grown["megabytes"] < 1.1 * warm["megabytes"] + 50


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it is read from /proc")
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_the_default_needs_no_framework_in_its_first_run(times, tmp_path, monkeypatch, precision):
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "empty"))
    first = predict(times(1), tmp_path / precision, "--precision", precision)
    assert first["imported"] == []
