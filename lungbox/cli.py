"""The command line, `lungbox COMMAND`.

It parses, calls one function of the package and says how it went; every import that is slow
happens inside a command.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from lungbox import __version__, cli_data, cli_export, cli_quantise, cli_weights
from lungbox.cli_common import OK, SOME_FAILED, STOPPED, TERMINATED, WRONG_USE, DataOption, say
from lungbox.errors import LungboxError
from lungbox.extras import check_installed, explain_missing
from lungbox.files import sentence

app = typer.Typer(
    name="lungbox",
    help="Finds lung opacities on chest radiographs. Research use only; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_weights.app, name="weights")
app.command()(cli_data.prepare)
app.command()(cli_data.folds)
app.command()(cli_data.audit)
app.command()(cli_export.export)
app.command()(cli_quantise.quantise)

# Options that several commands have.
EnsembleOption = Annotated[str, typer.Option(help="A name in the manifest.")]
EngineOption = Annotated[
    Literal["auto", "keras", "openvino"], typer.Option(help="What runs the networks.")
]

# What training imports beside what every installation has.
_TRAINING = ("albumentations", "tensorboardX")

FoldOption = Annotated[int, typer.Option(help="A fold that no member was trained on.")]
RecipeArgument = Annotated[
    Path,
    typer.Argument(help="A recipe: a TOML file, or one of Lungbox's own: lite0, four, reference."),
]
RunOption = Annotated[Path | None, typer.Option(help="The run's folder; runs/NAME by default.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Set a key of the recipe: --set optimizer.clip_norm=1"),
]
PrecisionOption = Annotated[
    Literal["auto", "float32", "bfloat16", "int8"],
    typer.Option(help="Inference precision; auto: the fastest whose RSNA metric was checked."),
]
WandbOption = Annotated[
    str, typer.Option(help="Also show the run on Weights & Biases, in this project.")
]


def main(arguments: list[str] | None = None, door: str = "") -> None:
    """Run the command line.

    Args:
        arguments: `sys.argv`'s by default.
        door: the one command that a script at the root stands for.
    """
    # Libraries talk about their own business on standard error, before anyone can silence them.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
    try:
        command = typer.main.get_command(app)
        if door:
            command = command.get_command(typer.Context(command), door)  # type: ignore[attr-defined]
        called = Path(sys.argv[0]).name
        with _ended_by_sigterm():
            command(arguments, prog_name="python -m lungbox" if called == "__main__.py" else called)
    except LungboxError as error:
        say.print(f"lungbox: {error}", markup=False)
        sys.exit(WRONG_USE)
    except ModuleNotFoundError as error:
        if not (missing := explain_missing(error)):
            raise
        say.print(f"lungbox: {missing}", markup=False)
        sys.exit(WRONG_USE)
    except OSError as error:
        # A folder that cannot be made, a full disk: never a file that is merely read.
        say.print(f"lungbox: {sentence(error)}", markup=False)
        sys.exit(WRONG_USE)
    except SystemExit as end:
        if end.code in (STOPPED, TERMINATED):
            say.print("Stopped; the same command continues where it was.")
        raise


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Inside, SIGTERM ends a command as Ctrl-C does, with what it has begun put away, instead of at
    once; a container's first process would not even notice it."""

    def end(*_: object) -> None:
        sys.exit(TERMINATED)

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@app.callback(invoke_without_command=True)
def _lungbox(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit(OK)


@app.command()
def predict(
    image_dir: Annotated[Path, typer.Argument(help="Folder of DICOM, PNG and JPEG files.")],
    ensemble: EnsembleOption = "default",
    output: Annotated[Path, typer.Option(help="Where results go.")] = Path("predictions"),
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    ids: Annotated[
        Path | None,
        typer.Option(help="A sample submission: its rows, no more and no fewer, are written."),
    ] = None,
    submission_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rescale the submission's boxes to a square of this side (1024 for RSNA); "
            "by default they are in pixels of each file.",
        ),
    ] = None,
    overlays: Annotated[bool, typer.Option("--overlays", help="Also draw pictures.")] = False,
    members: Annotated[
        bool, typer.Option("--members", help="Also keep and draw what each network says.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images run at once.")] = 8,
) -> None:
    """Box the lung opacities in a folder of radiographs."""
    from lungbox import folder_run

    totals = folder_run.run(
        folder_run.Request(
            images=image_dir,
            ensemble=ensemble,
            output=output,
            engine=engine,
            precision=precision,
            ids=ids,
            submission_size=submission_size,
            overlays=overlays,
            members=members,
            batch_size=batch_size,
        ),
        say,
    )
    if totals.failed or totals.without_picture:
        raise typer.Exit(SOME_FAILED)


@app.command()
def train(
    recipe: RecipeArgument,
    data: DataOption,
    run: RunOption = None,
    changes: SetOption = None,
    folds: Annotated[
        Literal["recipe", "all"],
        typer.Option(help="Train on the recipe's folds, or once for each on all others."),
    ] = "recipe",
    wandb: WandbOption = "",
) -> None:
    """Train what a recipe describes, or continue a run that was stopped."""
    check_installed("training", *_TRAINING)  # before Keras starts, which takes seconds
    from lungbox.frameworks import start_keras

    start_keras()
    from lungbox.training.run import Request, run_all_folds
    from lungbox.training.run import run as run_once

    request = Request(recipe, data, run, tuple(changes or ()), project=wandb)
    (run_all_folds if folds == "all" else run_once)(request, say)


@app.command()
def distill(
    recipe: RecipeArgument,
    data: DataOption,
    teacher: Annotated[str, typer.Option(help="The ensemble to learn from.")],
    share: Annotated[
        float, typer.Option(help="How much of a labelled image's target is the teacher's, 0-1.")
    ] = 0.7,
    unlabelled: Annotated[
        Path | None, typer.Option(help="A folder of more radiographs, without labels.")
    ] = None,
    run: RunOption = None,
    changes: SetOption = None,
    wandb: WandbOption = "",
) -> None:
    """Train a network on what an ensemble says of all images, labelled or not."""
    check_installed("training", *_TRAINING)
    from lungbox.frameworks import start_keras

    start_keras()
    from lungbox.training.run import Request
    from lungbox.training.run import run as run_once

    taught = (f"distillation.teacher='{teacher}'", f"distillation.share={share}")
    run_once(Request(recipe, data, run, (*(changes or ()), *taught), unlabelled, wandb), say)


@app.command()
def evaluate(
    data: DataOption,
    fold: FoldOption = 0,
    ensemble: EnsembleOption = "default",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "float32",
    against: Annotated[
        str | None, typer.Option(help="Another ensemble: print how the two differ.")
    ] = None,
) -> None:
    """Score an ensemble on a fold it was not trained on, and choose its operating point."""
    from lungbox.evaluation import evaluate as evaluation
    from lungbox.evaluation.assess import Subject

    evaluation.run(Subject(data, fold, ensemble, engine, precision), say, against)


@app.command()
def report(
    data: DataOption,
    fold: FoldOption = 0,
    ensemble: EnsembleOption = "default",
    engine: EngineOption = "auto",
    output: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
) -> None:
    """Write one HTML page about an ensemble on a fold it was not trained on."""
    from lungbox.evaluation import report as page
    from lungbox.evaluation.assess import Subject

    page.run(Subject(data, fold, ensemble, engine), output, say)


@app.command()
def tune(
    data: DataOption,
    fold: FoldOption = 0,
    ensemble: EnsembleOption = "default",
    engine: EngineOption = "auto",
    save: Annotated[
        str | None, typer.Option(help="Enter the result as an ensemble of this name.")
    ] = None,
) -> None:
    """Choose the operating point of an ensemble, and say what it is worth on unseen patients."""
    from lungbox.evaluation import tune as tuning
    from lungbox.evaluation.assess import Subject

    tuning.run(Subject(data, fold, ensemble, engine), save, say)


@app.command()
def score(
    submission: Annotated[
        Path, typer.Argument(help="A submission in the format of RSNA or VinBigData.")
    ],
    labels: Annotated[
        Path, typer.Argument(help="RSNA's stage_2_train_labels.csv, or VinBigData's train.csv.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="RSNA's stage_2_detailed_class_info.csv: also the metric at the challenge's mix."
        ),
    ] = None,
) -> None:
    """Check a submission and score it with its challenge's metric."""
    from lungbox.evaluation import submissions

    result = submissions.score(submission, labels, classes)
    if as_json:
        import json

        print(json.dumps(result.to_record(), indent=2))
    else:
        result.show(Console(highlight=False))


@app.command()
def networks(
    name: Annotated[str | None, typer.Argument(help="One network, part by part.")] = None,
) -> None:
    """List the networks that can be trained and run, or show one of them."""
    from lungbox import architecture_table

    console = Console(highlight=False)
    if name is None:
        architecture_table.show(console)
    else:
        architecture_table.show_one(name, console)
