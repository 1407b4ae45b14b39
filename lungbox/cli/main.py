"""The command line, `lungbox COMMAND`.

Commands parse options and call one function of the package; slow imports happen inside them.
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

from lungbox import __version__
from lungbox.cli import (
    OK,
    SOME_FAILED,
    STOPPED,
    TERMINATED,
    WRONG_USE,
    DataOption,
    console,
    data,
    export,
    quantize,
    weights,
)
from lungbox.common.backend import check_installed, explain_missing, start_keras
from lungbox.common.files import describe_os_error
from lungbox.errors import LungboxError

app = typer.Typer(
    name="lungbox",
    help="Finds lung opacities on chest radiographs. Research use only; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(weights.app, name="weights")
app.command()(data.prepare)
app.command()(data.folds)
app.command()(data.audit)
app.command()(export.export)
app.command()(quantize.quantize)
app.command("quantise", hidden=True)(quantize.quantize)

# Options that several commands have.
EnsembleOption = Annotated[str, typer.Option(help="A name in the manifest.")]
EngineOption = Annotated[
    Literal["auto", "keras", "openvino"], typer.Option(help="What runs the networks.")
]

# Optional dependencies of training.
_TRAINING = ("albumentations", "tensorboardX")

FoldOption = Annotated[int, typer.Option(help="A fold that no member was trained on.")]
PointOption = Annotated[
    str,
    typer.Option(
        help="An operating point of the ensemble, by its name in the manifest: of the default "
        "rsna, balanced or sensitive."
    ),
]
GateOption = Annotated[
    float | None,
    typer.Option(help="Least image score for boxes, on the scale of images.csv; 0 to 1."),
]
PrevalenceOption = Annotated[
    float | None,
    typer.Option(help="Share of images with an opacity to convert image scores to: 0.05."),
]
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


def main(arguments: list[str] | None = None, command_name: str = "") -> None:
    """Run the command line.

    Args:
        arguments: `sys.argv`'s by default.
        command_name: the command that a script at the root runs.
    """
    # Libraries write to standard error as soon as they are imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
    try:
        command = typer.main.get_command(app)
        if command_name:
            command = command.get_command(typer.Context(command), command_name)  # type: ignore[attr-defined]
        called = Path(sys.argv[0]).name
        with _ended_by_sigterm():
            command(arguments, prog_name="python -m lungbox" if called == "__main__.py" else called)
    except LungboxError as error:
        console.print(f"lungbox: {error}", markup=False)
        sys.exit(WRONG_USE)
    except ModuleNotFoundError as error:
        if not (missing := explain_missing(error)):
            raise
        console.print(f"lungbox: {missing}", markup=False)
        sys.exit(WRONG_USE)
    except OSError as error:
        # A folder that cannot be created, a full disk: never an input file.
        console.print(f"lungbox: {describe_os_error(error)}", markup=False)
        sys.exit(WRONG_USE)
    except SystemExit as end:
        if end.code in (STOPPED, TERMINATED):
            console.print("Stopped; the same command continues where it was.")
        raise


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Inside, SIGTERM ends a command like Ctrl-C, with clean-up; by default a process ends at once,
    and the first process of a container ignores it."""

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
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("predictions"),
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    operating_point: PointOption = "",
    gate: GateOption = None,
    prevalence: PrevalenceOption = None,
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
        bool, typer.Option("--members", help="Also write and draw each network's mask.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images run at once.")] = 8,
) -> None:
    """Box the lung opacities in a folder of radiographs.

    Images that do not look like upright frontal chest radiographs are flagged in images.csv.
    """
    from lungbox.inference.run import PredictRequest, predict_folder

    summary = predict_folder(
        PredictRequest(
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
            operating_point=operating_point,
            gate=gate,
            prevalence=prevalence,
        ),
        console,
    )
    if summary.failed or summary.without_picture:
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
    _start_training(wandb)
    from lungbox.training.recipe import TrainingConfig
    from lungbox.training.run import run as run_once
    from lungbox.training.run import run_all_folds

    config = TrainingConfig(recipe, data, run, tuple(changes or ()), wandb=wandb)
    (run_all_folds if folds == "all" else run_once)(config, console)


@app.command()
def distill(
    recipe: RecipeArgument,
    data: DataOption,
    teacher: Annotated[str, typer.Option(help="The ensemble to learn from.")],
    share: Annotated[
        float, typer.Option(help="Weight of the teacher in a labelled image's target, 0-1.")
    ] = 0.7,
    unlabelled: Annotated[
        Path | None, typer.Option(help="A folder of more radiographs, without labels.")
    ] = None,
    run: RunOption = None,
    changes: SetOption = None,
    wandb: WandbOption = "",
) -> None:
    """Train a network on an ensemble's predictions of all images, labelled or not."""
    _start_training(wandb)
    from lungbox.training.recipe import TrainingConfig
    from lungbox.training.run import run as run_once

    distillation = (f"distillation.teacher='{teacher}'", f"distillation.share={share}")
    config = TrainingConfig(recipe, data, run, (*(changes or ()), *distillation), unlabelled, wandb)
    run_once(config, console)


def _start_training(wandb: str) -> None:
    """Check that what training needs is installed, and start Keras, which takes seconds."""
    check_installed("training", *_TRAINING, *(["wandb"] if wandb else []))
    start_keras()


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
    operating_point: PointOption = "",
    gate: GateOption = None,
) -> None:
    """Score an ensemble on a fold it was not trained on, and choose its operating points.

    Of an ensemble of several findings: mean average precision, as VinBigData's challenge and COCO
    have it, with and without the image gate, by class; and AUC of image-level labels.
    """
    from lungbox.evaluation.evaluator import EvaluationConfig
    from lungbox.evaluation.markdown import print_evaluation

    config = EvaluationConfig(data, fold, ensemble, engine, precision, operating_point, gate)
    print_evaluation(config, console, against)


@app.command()
def report(
    data: DataOption,
    fold: FoldOption = 0,
    ensemble: EnsembleOption = "default",
    engine: EngineOption = "auto",
    output: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
) -> None:
    """Write one HTML page about an ensemble on a fold it was not trained on."""
    from lungbox.evaluation.evaluator import EvaluationConfig
    from lungbox.evaluation.report import write_report

    write_report(EvaluationConfig(data, fold, ensemble, engine), output, console)


@app.command()
def tune(
    data: DataOption,
    fold: FoldOption = 0,
    ensemble: EnsembleOption = "default",
    engine: EngineOption = "auto",
    save: Annotated[
        str | None, typer.Option(help="Register the result as an ensemble of this name.")
    ] = None,
) -> None:
    """Choose an ensemble's operating points and calibration on held-out patients.

    Of an ensemble of several findings: least score, IoU of fusion and the two gates, for
    VinBigData's metric.
    """
    from lungbox.evaluation.evaluator import EvaluationConfig
    from lungbox.evaluation.findings import has_findings
    from lungbox.evaluation.tune import tune as tune_ensemble
    from lungbox.evaluation.tune_findings import tune_findings

    config = EvaluationConfig(data, fold, ensemble, engine)
    if has_findings(config.class_names):
        tune_findings(config, save, console)
    else:
        tune_ensemble(config, save, console)


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
    name: Annotated[str | None, typer.Argument(help="A network, to print its layers.")] = None,
) -> None:
    """List the networks that can be trained and run, or the layers of one."""
    from lungbox.cli import networks as network_table

    console = Console(highlight=False)
    if name is None:
        network_table.show(console)
    else:
        network_table.show_one(name, console)
