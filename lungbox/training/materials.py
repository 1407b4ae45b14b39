"""What a run learns from: images read once, and what a teacher says of them."""

from dataclasses import dataclass

from lungbox import datasets
from lungbox.datasets.cache import Cache, prepare_all
from lungbox.datasets.types import Dataset
from lungbox.datasets.unlabelled import files_by_size, is_copy
from lungbox.training.job import Job, Progress
from lungbox.training.recipe import Recipe
from lungbox.training.teacher import Teacher


@dataclass(frozen=True)
class Materials:
    """What a run learns from.

    Attributes:
        images: trained on.
        held_out: scored on; None where the recipe scores on nothing.
        teacher: what it learns from beside the labels, row by row of `images`.
    """

    images: Cache
    held_out: Cache | None
    teacher: Teacher | None


def read_materials(recipe: Recipe, job: Job, progress: Progress) -> Materials:
    """Read and prepare what the recipe trains and scores on, and ask its teacher.

    Raises:
        DatasetError: the data is not there, or none of it is in the recipe's folds.
    """
    found = datasets.load(job.data)
    learned, scored = _learned(found, recipe, job, progress), _scored(found, recipe, job)
    reading = progress.reading(len(learned) + len(scored))
    size, preparation = recipe.image_size, recipe.preparation
    images = prepare_all(learned, size, job.cache, reading, preparation)
    held_out = prepare_all(scored, size, job.cache, reading, preparation) if len(scored) else None
    if not len(images) or (held_out is not None and not len(held_out)):
        nothing = images if held_out is None or not len(images) else held_out
        where, why = nothing.failed[0]
        raise datasets.DatasetError(f"{job.data}: no image could be read, {where} for one: {why}")
    failed = [*images.failed, *(held_out.failed if held_out else ())]
    for fault in (*learned.faults, *(f"{path}: {why}" for path, why in failed)):
        progress.note(fault)
    if recipe.distillation is None:
        return Materials(images, held_out, None)
    asked = progress.teaching(len(images))
    teacher = Teacher.ask(recipe.distillation, images.dataset, job.cache, asked)
    return Materials(images, held_out, teacher)


def _learned(found: Dataset, recipe: Recipe, job: Job, progress: Progress) -> Dataset:
    """The recipe's folds; only a teacher makes use of images that nobody has labelled."""
    chosen, sources = found.folds(recipe.data.folds), recipe.data.sources
    if sources:
        chosen = chosen.where(lambda image: image.source in sources)
    if recipe.distillation is None:
        chosen = chosen.where(lambda image: not image.uncertain)
    if not chosen.images:
        wanted = ", ".join(map(str, recipe.data.folds))
        of = f" of {' or '.join(sources)}" if sources else ""
        raise datasets.DatasetError(f"{job.data}: no image{of} is in the recipe's folds {wanted}")
    if job.unlabelled is None:
        return chosen
    # Of the held-out fold, without their labels, they would be learned by heart all the same.
    known = {image.identity for image in found.images}
    files = files_by_size(image.path for image in found.images)
    more = datasets.load_unlabelled(job.unlabelled)
    new = more.where(lambda image: image.identity not in known and not is_copy(image.path, files))
    if len(new) < len(more):
        progress.note(
            f"{job.unlabelled}: {len(more) - len(new)} of {len(more)} are in {job.data}, too, and "
            "left out"
        )
    return chosen + new


def _scored(found: Dataset, recipe: Recipe, job: Job) -> Dataset:
    """What of the held-out fold the metric is of: RSNA's images where there are any."""
    fold = recipe.validation.fold
    if fold is None:
        return Dataset(())
    certain = found.folds([fold]).where(lambda image: not image.uncertain)
    if not certain.images:
        raise datasets.DatasetError(f"{job.data}: no image is in validation.fold {fold}")
    rsna = certain.of_source("rsna")
    return rsna if rsna.images else certain
