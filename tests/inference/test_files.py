"""Which files are found, and what they are called."""

import os
import socket
from pathlib import Path

import pytest

from lungbox.inference.files import find_image_files
from lungbox.radiograph import RadiographError, read


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def called(sources):
    return {source.relative: source.identity for source in sources}


def test_identities_lose_known_endings_only(tmp_path):
    make(tmp_path, "a.DCM", "b.jpeg", "1.2.840.113619.2", "1.2.3.dcm", "c.tar.gz", "d.Dicom")
    sources, shared = find_image_files(tmp_path)
    assert called(sources) == {
        "a.DCM": "a",
        "b.jpeg": "b",
        "1.2.840.113619.2": "1.2.840.113619.2",
        "1.2.3.dcm": "1.2.3",
        "c.tar.gz": "c.tar.gz",
        "d.Dicom": "d",
    }
    assert not shared
    assert [s.identity for s in sources] == sorted(s.identity for s in sources)


def test_files_of_one_name_are_called_by_their_paths(tmp_path):
    make(tmp_path, "x/one.png", "y/one.dcm", "y/one.png", "two.png")
    sources, shared = find_image_files(tmp_path)
    assert called(sources) == {
        "x/one.png": "x/one.png",
        "y/one.dcm": "y/one.dcm",
        "y/one.png": "y/one.png",
        "two.png": "two",
    }
    assert shared == ["one"]


def test_hidden_files_clutter_and_results_are_left_out(tmp_path):
    make(
        tmp_path, ".DS_Store", ".git/x", "Thumbs.db", "sub/DICOMDIR", "__MACOSX/._a.png", "a.png",
        "predictions/submission.csv", "predictions/overlays/a.png",
    )  # fmt: skip
    sources, _ = find_image_files(tmp_path, excluded=tmp_path / "predictions")
    assert called(sources) == {"a.png": "a"}


def test_results_may_go_into_a_folder_above(tmp_path):
    make(tmp_path, "in/a.png")
    assert len(find_image_files(tmp_path / "in", tmp_path)[0]) == 1


def test_a_path_may_be_another_files_name(tmp_path):
    make(tmp_path, "one.png", "one.jpg", "one.png.png")
    sources, _ = find_image_files(tmp_path)
    assert len({source.identity for source in sources}) == 3


def test_names_that_cannot_be_written(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    make(tmp_path, "two\nlines.png", "übung.png")
    names = {source.identity for source in find_image_files(tmp_path)[0]}
    assert names == {"caf\\udce9", "two\\nlines", "übung"}
    for source in find_image_files(tmp_path)[0]:
        assert source.path.read_bytes() == b"x"
        source.identity.encode()


def test_links_are_followed_once(tmp_path):
    make(tmp_path, "real/a.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path / "real")
    (tmp_path / "real/back").symlink_to(tmp_path / "in")
    assert called(find_image_files(tmp_path / "in")[0]) == {"link/a.png": "a"}


def test_a_dangling_link_is_a_file_that_fails(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    ((source,), _) = find_image_files(tmp_path)
    assert source.stamp == "gone"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_a_closed_folder_is_a_file_that_fails(tmp_path):
    make(tmp_path, "a.png", "closed/b.png")
    (tmp_path / "closed").chmod(0)
    try:
        assert set(called(find_image_files(tmp_path)[0])) == {"a.png", "closed"}
    finally:
        (tmp_path / "closed").chmod(0o755)


def test_stamps_change_with_the_file(tmp_path):
    make(tmp_path, "a.png")
    ((before,), _) = find_image_files(tmp_path)
    (tmp_path / "a.png").write_bytes(b"xy")
    ((after,), _) = find_image_files(tmp_path)
    assert before.stamp != after.stamp


def test_a_single_file(tmp_path):
    make(tmp_path, "a.png")
    (source,), _ = find_image_files(tmp_path / "a.png")
    assert source.identity == "a"


def test_names_that_look_alike_once_they_are_escaped(tmp_path):
    make(tmp_path, "a\nb.jpg", r"a\nb.jpg", r"a\\nb.jpg", r"plain\name.jpg")
    sources, shared = find_image_files(tmp_path)
    assert {source.path.name: (source.identity, source.relative) for source in sources} == {
        "a\nb.jpg": (r"a\nb.jpg", r"a\nb.jpg"),
        r"a\nb.jpg": (r"a\\nb.jpg", r"a\\nb.jpg"),
        r"a\\nb.jpg": (r"a\\nb", r"a\\\\nb.jpg"),
        r"plain\name.jpg": (r"plain\name", r"plain\\name.jpg"),
    }
    assert shared == [r"a\nb"]


def test_a_backslash_alone_stays_as_it_is(tmp_path):
    make(tmp_path, r"a\b.jpg", "line\nend.jpg")
    assert called(find_image_files(tmp_path)[0]) == {
        r"a\b.jpg": r"a\b",
        r"line\nend.jpg": r"line\nend",
    }


def test_what_is_no_file_is_listed_and_fails_when_it_is_read(tmp_path):
    make(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / ".hidden")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    (tmp_path / "zeros.dcm").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # the whole path may be too long for a socket
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
    sources, _ = find_image_files(tmp_path)
    said = {}
    for source in sources:
        with pytest.raises(RadiographError) as caught:
            read(source.path)
        said[source.relative] = str(caught.value).partition(",")[0]
    pipe = "it is a named pipe (FIFO)"
    assert said == {
        "a.png": "not a radiograph: its content is neither DICOM",
        "pipe.png": pipe,
        "link.png": pipe,
        "socket": "it is a socket",
        "zeros.dcm": "it is a device",
    }
    ((alone,), _) = find_image_files(tmp_path / "pipe.png")
    assert (alone.identity, alone.relative) == ("pipe", "pipe.png")
