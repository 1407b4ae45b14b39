"""Export of an ensemble with a network of every kind."""

from dataclasses import replace

import numpy as np
import pytest

from lungbox.boxes import OperatingPoint
from lungbox.engines import EngineConfig, start
from lungbox.engines.keras import build
from lungbox.export import FORMATS
from lungbox.export.convert import write
from lungbox.export.metadata import describe
from lungbox.export.runtimes import Runner, open_file
from tests.engines.test_kinds import CLASSES, LABELS, images, members  # noqa: F401  fixtures


@pytest.fixture
def config(members):  # noqa: F811
    return EngineConfig("all", tuple(members.values()), batch_size=5)


@pytest.mark.parametrize(("form", "batch"), [(form, None) for form in FORMATS] + [("onnx", 2)])
def test_every_output_in_every_format(form, batch, config, images, tmp_path):  # noqa: F811
    """Five images, in batches of three and two or, padded, of two; boxes keep their weight."""
    path = tmp_path / "network"
    write(form, build(config), path, batch, "{}")
    five = np.concatenate([images, 255 - images[:2]])
    found = Runner(form, config, open_file(form, path), batch).predict(five)
    expected = start("keras", config).predict(five)
    assert list(expected.arrays()) == ["masks", "scores", "classes", "boxes_0", "scores_0"]
    for name, values in expected.arrays().items():
        assert found.arrays()[name] == pytest.approx(values, abs=1e-5), name
        assert np.ptp(values[:3] - values[:1]) > 1e-3, name
    assert [weight for _, _, weight in found.detections] == [0.25]


def test_the_metadata_names_the_outputs(config):
    metadata = describe(config, OperatingPoint(), 4)
    assert set(metadata["outputs"]) == {"mask", "image", "boxes_1", "scores_1", "classes"}
    assert metadata["outputs"]["mask"].startswith("(batch, h, w, 3)")
    assert metadata["labels"] == ["background", *CLASSES]
    assert metadata["image_labels"] == list(LABELS)
    only = replace(config, members=config.members[1:2])
    assert set(describe(only, OperatingPoint(), 4)["outputs"]) == {"image", "boxes_0", "scores_0"}
