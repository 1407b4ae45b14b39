"""Which files are found, and what they are called."""

from lungbox.folder import gather


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def called(sources):
    return {source.relative: source.identity for source in sources}


def test_identities_lose_known_endings_only(tmp_path):
    make(tmp_path, "a.DCM", "b.jpeg", "1.2.840.113619.2", "1.2.3.dcm", "c.tar.gz", "d.Dicom")
    sources, shared = gather(tmp_path)
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
    sources, shared = gather(tmp_path)
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
    sources, _ = gather(tmp_path, leave_out=tmp_path / "predictions")
    assert called(sources) == {"a.png": "a"}


def test_results_may_go_into_the_folder_itself(tmp_path):
    make(tmp_path, "a.png")
    assert len(gather(tmp_path, leave_out=tmp_path)[0]) == 1


def test_a_single_file(tmp_path):
    make(tmp_path, "a.png")
    (source,), _ = gather(tmp_path / "a.png")
    assert source.identity == "a"
