"""Training data: images that are read and prepared once, and a teacher's predictions of them."""

from dataclasses import dataclass
from pathlib import Path

from lungbox import datasets
from lungbox.datasets.cache import PreparedImages, prepare_all
from lungbox.datasets.findings import FINDINGS
from lungbox.datasets.images import identical_files
from lungbox.datasets.types import Dataset, LabelledRadiograph
from lungbox.training.batches import known_findings
from lungbox.training.distillation import Teacher
from lungbox.training.progress import TrainingProgress
from lungbox.training.recipe import Recipe, RecipeError, TrainingConfig, check_known


@dataclass(frozen=True)
class TrainingData:
    """The data of a training run.

    Attributes:
        images: trained on.
        held_out: scored on; None where the recipe has no validation fold.
        teacher: its predictions, row by row of `images`; None without distillation.
        class_names: the findings that boxes have, in the order of the network's outputs; None where
            they are of lung opacity, and the network's own names count.
    """

    images: PreparedImages
    held_out: PreparedImages | None
    teacher: Teacher | None
    class_names: tuple[str, ...] | None = None


def load_training_data(
    recipe: Recipe, config: TrainingConfig, progress: TrainingProgress
) -> TrainingData:
    """Read and prepare the images of a run, and predict them with its teacher.

    Raises:
        DatasetError: the data is missing, none of it is in the recipe's folds, or none is readable.
    """
    found = _of_task(datasets.load(config.data), recipe)
    trained_on = _trained_on(found, recipe, config, progress)
    scored_on = _scored_on(found, recipe, config)
    reading = progress.reading(len(trained_on) + len(scored_on))
    size, preparation = recipe.image_size, recipe.preparation
    images = prepare_all(trained_on, size, config.cache, reading, preparation)
    held_out = None
    if len(scored_on):
        held_out = prepare_all(scored_on, size, config.cache, reading, preparation)
    for prepared in (images, held_out):
        if prepared is not None and not len(prepared):
            path, reason = prepared.failed[0]
            raise datasets.DatasetError(
                f"{config.data}: no image could be read; the first, {path}: {reason}"
            )
    failed = [*images.failed, *(held_out.failed if held_out else ())]
    for issue in (*trained_on.issues, *(f"{path}: {reason}" for path, reason in failed)):
        progress.note(issue)
    if recipe.distillation is None:
        names = found.class_names if recipe.data.task == "findings" else None
        return TrainingData(images, held_out, None, names)
    predicted = progress.predicting_with_teacher(len(images))
    teacher = Teacher.predict(recipe.distillation, images.dataset, config.cache, predicted)
    return TrainingData(images, held_out, teacher)


def _of_task(dataset: Dataset, recipe: Recipe) -> Dataset:
    """The data set with the boxes of the recipe's task; of several findings the recipe's sources
    alone, whose classes are the network's."""
    if recipe.data.task == "findings":
        sources = set(recipe.data.sources) or dataset.sources
        chosen = dataset.where(lambda image: image.source in sources)
        return datasets.as_findings(chosen, recipe.data.classes)
    return datasets.as_opacity(dataset, recipe.data.opacity)


def check_data(recipe: Recipe, dataset: Dataset) -> None:
    """Check that the sources and classes a recipe weights are in the data.

    Raises:
        RecipeError: one is misspelt, or a stage would draw no image.
    """
    sources = {*datasets.INFOS, *dataset.sources}
    check_known("data.sources", recipe.data.sources, sources)
    check_known("data.source_weights", recipe.data.source_weights, sources)
    categories = {image.category for image in dataset.images}
    categories.update(*(info.categories for info in datasets.INFOS.values()))
    check_known("data.category_weights", recipe.data.category_weights, categories)
    check_known("data.weak_targets", recipe.data.weak_targets, categories)
    check_known("data.opacity", recipe.data.opacity, _finding_names())
    check_known("data.findings", recipe.data.findings, FINDINGS)
    for number, stage in enumerate(recipe.stages):
        check_known(f"stages.{number}.source_weights", stage.source_weights, sources)
        weights = stage.source_weights or recipe.data.source_weights
        if all(weights.get(source, 1.0) == 0 for source in dataset.sources):
            raise RecipeError(f"stages.{number}: every data set in the data has a weight of 0")
    weights = recipe.data.category_weights
    if not any(weights.get(image.category, 1.0) for image in dataset.images):
        raise RecipeError("data.category_weights: every class in the data has a weight of 0")


def _finding_names() -> set[str]:
    """The classes of boxes in data sets of several findings."""
    return {name for info in datasets.INFOS.values() if info.opacity for name in info.class_names}


def _trained_on(
    found: Dataset, recipe: Recipe, config: TrainingConfig, progress: TrainingProgress
) -> Dataset:
    """The images of the recipe's folds that it has a target for; unlabelled ones only with a
    teacher."""
    chosen, sources = found.folds(recipe.data.folds), recipe.data.sources
    if sources:
        chosen = chosen.where(lambda image: image.source in sources)
    if labels := recipe.label_set:
        chosen = chosen.where(labels.is_known)
    elif recipe.distillation is None:
        chosen = chosen.where(lambda image: not image.uncertain or _has_other_target(image, recipe))
    if not chosen.images:
        folds = ", ".join(map(str, recipe.data.folds))
        of = f" of {' or '.join(sources)}" if sources else ""
        labelled = f" with a label of data.labels = {labels.name}" if labels else ""
        raise datasets.DatasetError(
            f"{config.data}: no image{of}{labelled} is in the recipe's folds {folds}"
        )
    if config.unlabelled is None:
        return chosen
    # An image of the held-out fold would be trained on here, even if without its labels.
    more = datasets.load_unlabelled(config.unlabelled)
    known = {image.identity for image in found.images}
    files, copies = {image.path for image in found.images}, set[Path]()
    for group in identical_files(files | {image.path for image in more.images}):
        if not files.isdisjoint(group):
            copies.update(group)
    new = more.where(lambda image: image.identity not in known and image.path not in copies)
    if len(new) < len(more):
        progress.note(
            f"{config.unlabelled}: {len(more) - len(new)} of {len(more)} are in {config.data}, "
            "too, and left out"
        )
    return chosen + new


def _has_other_target(image: LabelledRadiograph, recipe: Recipe) -> bool:
    """Whether an uncertain image has a target that the recipe trains: a weak one, or findings."""
    return image.category in recipe.data.weak_targets or bool(
        recipe.loss.findings and known_findings(image, recipe.data)
    )


def _scored_on(found: Dataset, recipe: Recipe, config: TrainingConfig) -> Dataset:
    """The images of the held-out fold that are scored: the challenge's, if there are any; of a
    classification network those of the data sets trained on that have a label."""
    fold = recipe.validation.fold
    if fold is None:
        return Dataset(())
    if labels := recipe.label_set:
        sources = set(recipe.data.sources) or found.sources
        known = found.folds([fold]).where(lambda image: image.source in sources)
        known = known.where(labels.is_known)
        if not known.images:
            raise datasets.DatasetError(
                f"{config.data}: no image with a label of data.labels = {labels.name} is in "
                f"validation.fold {fold}"
            )
        return known
    certain = found.folds([fold]).where(lambda image: not image.uncertain)
    if not certain.images:
        raise datasets.DatasetError(f"{config.data}: no image is in validation.fold {fold}")
    challenge = datasets.challenge_images(certain)
    return challenge if challenge.images else certain
