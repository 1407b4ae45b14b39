"""`lungbox report`: the evaluation of an ensemble as one HTML page that needs no internet."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console

from lungbox.common.files import atomic_write
from lungbox.errors import LungboxError
from lungbox.evaluation.evaluator import EvaluationConfig, evaluate_ensemble
from lungbox.evaluation.report.content import collect_content


def write_report(config: EvaluationConfig, output: Path, console: Console) -> None:
    """Write the report of an ensemble on a held-out fold.

    Args:
        config: the ensemble and the fold.
        output: the page.
        console: where progress is shown.

    Raises:
        LungboxError: the page cannot be written there, the data is missing, or the fold is not
            held out.
    """
    if output.is_dir():
        raise LungboxError(f"{output} is a folder; --output is the page's own name")
    output.parent.mkdir(parents=True, exist_ok=True)  # fails now, not after all the work
    result = evaluate_ensemble(config, console)
    with console.status("Drawing"):
        content = collect_content(result)
    pages = Environment(
        loader=PackageLoader("lungbox.evaluation", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    with atomic_write(output) as file:
        file.write(pages.get_template("page.html").render(vars(content)))
    console.print(f"{output}: open it in a browser; it needs nothing else", markup=False)
