"""The folder of a training run and its files."""

import csv
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from lungbox.common.files import atomic_write
from lungbox.training.data import TrainingData
from lungbox.training.loggers import LOG
from lungbox.training.recipe import Recipe, RecipeError, find_recipe, load_recipe

_BEST = "best-{epoch}.safetensors"
_COLUMNS = ("use", "source", "fold", "image_id")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    `recipe.toml` is the recipe, `images.csv` the images trained and scored on, `classes.txt` the
    findings, where these are the classes, `log.csv` a row for each epoch and `tensorboard/` the
    same, `state.safetensors` the training state until the run ends, `best-EPOCH.safetensors` the
    best weights, where the recipe has patience, and `weights.safetensors` the result.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe, with its changes."""
        return self.path / "recipe.toml"

    @property
    def images(self) -> Path:
        """The images trained and scored on."""
        return self.path / "images.csv"

    @property
    def classes(self) -> Path:
        """The findings, one a line in the order of the network's outputs; missing where the only
        class is lung opacity."""
        return self.path / "classes.txt"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The findings of `classes`; empty where there is no such file."""
        found = self.classes.read_text("utf-8").splitlines() if self.classes.is_file() else []
        return tuple(found)

    @property
    def state(self) -> Path:
        """The training state of an unfinished run."""
        return self.path / "state.safetensors"

    @property
    def weights(self) -> Path:
        """The trained weights of a finished run."""
        return self.path / "weights.safetensors"

    def best(self, epoch: int | None) -> Path:
        """The weights of the epoch with the best score so far."""
        return self.path / _BEST.format(epoch=epoch)

    def tidy(self, keep: int | None = None) -> None:
        """Remove the files that only an unfinished run needs, or with `keep` all best weights but
        those of that epoch."""
        kept = self.best(keep)
        for path in (*self.path.glob(_BEST.format(epoch="*")), *([] if keep else [self.state])):
            if path != kept:
                path.unlink(missing_ok=True)

    def claim(self, recipe: Recipe, recipe_path: Path, training_data: TrainingData) -> None:
        """Create the folder for a recipe and its images, or check that it is theirs.

        Raises:
            RecipeError: it holds a run of another recipe, or on other images.
        """
        if not any(path.exists() for path in (self.state, self.path / LOG, self.weights)):
            # Left by a run that was stopped before the end of its first epoch.
            self.recipe.unlink(missing_ok=True)
            self.images.unlink(missing_ok=True)
            self.tidy()
        if self.recipe.is_file() and load_recipe(self.recipe) != recipe:
            raise RecipeError(
                f"{self.path} holds a run of another recipe; give another --run, or remove that "
                "folder"
            )
        table = _image_table(training_data)
        # "replace": a spreadsheet may have saved it in another encoding, which is another table.
        other = self.images.is_file() and self.images.read_text("utf-8", "replace") != table
        if other and not self.weights.is_file():
            raise RecipeError(
                f"{self.path} holds a run on other images (see its images.csv); give the same "
                "data again, or another --run"
            )
        self._write(recipe, recipe_path, table)
        if training_data.class_names is not None:
            with atomic_write(self.classes) as file:
                file.writelines(f"{name}\n" for name in training_data.class_names)

    def _write(self, recipe: Recipe, recipe_path: Path, table: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.images.is_file():
            with atomic_write(self.images) as file:
                file.write(table)
        if self.recipe.is_file():
            return
        if load_recipe(recipe_path) == recipe:
            shutil.copyfile(find_recipe(recipe_path), self.recipe)  # with its comments
        else:
            with atomic_write(self.recipe, "wb") as file:
                tomli_w.dump(recipe.model_dump(mode="json", exclude_unset=True), file)


def _image_table(training_data: TrainingData) -> str:
    """`images.csv`, in the images' order, which decides what is drawn."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for use, cache in (("trained on", training_data.images), ("scored on", training_data.held_out)):
        for image in cache.dataset.images if cache else ():
            table.writerow((use, image.source, image.fold, image.identity))
    return text.getvalue()
