"""`lungbox report`: an ensemble on a fold as one HTML page that opens without a network."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console

from lungbox.errors import LungboxError
from lungbox.evaluation.assess import Subject, assess
from lungbox.evaluation.report.content import gather
from lungbox.files import replacing


def run(subject: Subject, output: Path, say: Console) -> None:
    """Write the report of an ensemble on a fold it was not trained on.

    Args:
        subject: what is assessed.
        output: the page.
        say: where progress is shown.

    Raises:
        LungboxError: the page cannot be written there, the data is not there, or the weights have
            seen the fold.
    """
    if output.is_dir():
        raise LungboxError(f"{output} is a folder; --output is the page's own name")
    output.parent.mkdir(parents=True, exist_ok=True)  # fails now, not after all the work
    found = assess(subject, say)
    with say.status("Drawing"):
        content = gather(found)
    pages = Environment(
        loader=PackageLoader("lungbox.evaluation", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    with replacing(output) as file:
        file.write(pages.get_template("page.html").render(vars(content)))
    say.print(f"{output}: open it in a browser; it needs nothing else", markup=False)
