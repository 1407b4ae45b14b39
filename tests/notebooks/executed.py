"""A notebook run from its first cell to its last, with settings of the test's own."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOKS = ROOT / "notebooks"


@dataclass(frozen=True)
class Executed:
    """What the cells left.

    Attributes:
        said: all they printed or showed as text.
        figures: how many they drew.
    """

    said: str
    figures: int


def execute(name: str, folder: Path, last: str = "", **settings: object) -> Executed:
    """Run a notebook in `folder`, in a kernel of this interpreter.

    Args:
        name: of the notebook, without its ending.
        folder: its working folder; what Jupyter and IPython keep also lies there.
        last: code of one more cell behind all others, which looks at what they left.
        settings: names of its settings cell, set right behind it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised; it has `ename` and `evalue`.
    """
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    (cell,) = tagged
    for setting in settings:
        assert f"\n{setting} = " in f"\n{cell.source}", f"{name} has no setting {setting}"
    lines = [f"{setting} = {value!r}" for setting, value in settings.items()]
    injected = nbformat.v4.new_code_cell("\n".join(lines))
    notebook.cells.insert(notebook.cells.index(cell) + 1, injected)
    notebook.cells.append(nbformat.v4.new_code_cell(last))
    folder.mkdir(parents=True, exist_ok=True)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=_environment(folder))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output.get("data", {}) for output in outputs]
    texts = [
        output.get("text") or data.get("text/plain", "")
        for output, data in zip(outputs, shown, strict=True)
    ]
    return Executed("".join(texts), sum("image/png" in data for data in shown))


def _environment(folder: Path) -> dict[str, str]:
    """This process's, with nothing of the user's own."""
    private = folder / ".kernel"
    private.mkdir(exist_ok=True)
    return {name: value for name, value in os.environ.items() if name != "MPLBACKEND"} | {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "IPYTHONDIR": str(private / "ipython"),
        "LUNGBOX_HOME": str(private / "home"),
        "LUNGBOX_CACHE": str(private / "cache"),
        "LUNGBOX_OFFLINE": "1",
    }
