"""A run's folder: whose it is, and what lies in it."""

import csv
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from lungbox.files import replacing
from lungbox.training.materials import Materials
from lungbox.training.recipe import Recipe, RecipeError, find_recipe, load_recipe
from lungbox.training.tracking import LOG

_BEST = "best-{epoch}.safetensors"
_IMAGES = ("use", "source", "fold", "image_id")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    `recipe.toml` is what was asked, `images.csv` what it learns from and is scored on, `log.csv` a
    row an epoch and `tensorboard/` the same, `state.safetensors` where it stands, until it ends,
    `best-EPOCH.safetensors` the best weights, where the recipe has patience, and
    `weights.safetensors` what it was for.
    """

    path: Path

    @property
    def asked(self) -> Path:
        """The recipe."""
        return self.path / "recipe.toml"

    @property
    def images(self) -> Path:
        """What it learns from and is scored on."""
        return self.path / "images.csv"

    @property
    def state(self) -> Path:
        """Where the run stands."""
        return self.path / "state.safetensors"

    @property
    def weights(self) -> Path:
        """What the run was for; it has ended where they are."""
        return self.path / "weights.safetensors"

    def best(self, epoch: int | None) -> Path:
        """The weights of the best epoch so far."""
        return self.path / _BEST.format(epoch=epoch)

    def tidy(self, keep: int | None = None) -> None:
        """Remove what only an unfinished run needs, or all best weights but those of epoch
        `keep`."""
        kept = self.best(keep)
        for path in (*self.path.glob(_BEST.format(epoch="*")), *([] if keep else [self.state])):
            if path != kept:
                path.unlink(missing_ok=True)

    def claim(self, recipe: Recipe, recipe_path: Path, materials: Materials) -> None:
        """Make it the folder of this recipe on these images.

        Raises:
            RecipeError: it holds a run of another recipe, or one that learns from other images.
        """
        if not any(path.exists() for path in (self.state, self.path / LOG, self.weights)):
            # Of a run that ended before its first epoch did.
            self.asked.unlink(missing_ok=True)
            self.images.unlink(missing_ok=True)
            self.tidy()
        if self.asked.is_file() and load_recipe(self.asked) != recipe:
            raise RecipeError(
                f"{self.path} holds a run of another recipe; give another --run, or remove that "
                "folder"
            )
        used = _table(materials)
        # A spreadsheet may have saved it in another encoding: then it is another table.
        other = self.images.is_file() and self.images.read_text("utf-8", "replace") != used
        if other and not self.weights.is_file():
            raise RecipeError(
                f"{self.path} holds a run that learns from other images than these (its "
                "images.csv); give the same data again, or another --run"
            )
        self._write(recipe, recipe_path, used)

    def _write(self, recipe: Recipe, recipe_path: Path, used: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.images.is_file():
            with replacing(self.images) as file:
                file.write(used)
        if self.asked.is_file():
            return
        if load_recipe(recipe_path) == recipe:
            shutil.copyfile(find_recipe(recipe_path), self.asked)  # with its comments
        else:
            with replacing(self.asked, "wb") as file:
                tomli_w.dump(recipe.model_dump(mode="json", exclude_unset=True), file)


def _table(materials: Materials) -> str:
    """In the order they have, for what is drawn depends on it."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_IMAGES)
    for use, cache in (("trained on", materials.images), ("scored on", materials.held_out)):
        for image in cache.dataset.images if cache else ():
            table.writerow((use, image.source, image.fold, image.identity))
    return text.getvalue()
