"""From a run folder to the shelf: the one moment at which a model meets its test set."""

import dataclasses
import shutil
from pathlib import Path

from models.cards import (
    CARD,
    KERAS_MODEL,
    Card,
    Control,
    Distillation,
    checksums,
    read_card,
    write_card,
)
from models.data.datasets import Arrays, load
from models.errors import MetaplasticError
from models.packaging.export import agreement, export, keras_logits, onnx_logits
from models.packaging.plots import draw_confusion
from models.packaging.scoring import score
from models.publishing.corrupted import measure_corrupted
from models.publishing.samples import write_samples
from models.training.recipes import recipe_from
from models.training.runs import HISTORY


class PublishError(MetaplasticError):
    """A run that may not be published: says why and what to do."""


def publish(
    run: Path,
    shelf: Path,
    *,
    control: Path | None = None,
    without: Path | None = None,
    default: bool | None = None,
    docs: Path | None = None,
    samples: bool = False,
) -> Path:
    """Put the model in `run` on the shelf as its newest version, and return its folder there.

    The ONNX model must agree with the Keras model on the whole test set, which is read here to
    score the model. `control` is the folder of its plain twin (a run or a published model), whose
    scores the card then carries; `without` is that of the same training without its teachers;
    `default` makes it its endpoint's default (None: every rule but `backprop` is). The folder
    appears on the shelf complete, by one rename. Below `docs`, `runs` gets its teachers' cards.
    With `samples` a few of the data set's validation pictures are published beside the model.

    Raises PublishError, CardError, DataError or ExportError, and then leaves the shelf as it was.
    """
    card = read_card(run)
    arrays = load(card.dataset)
    twin = None if control is None else _control(card, control, arrays)
    taught = _distillation(card, without, arrays)
    endpoint = shelf / card.dataset / card.architecture / card.rule
    versions = [int(path.name) for path in endpoint.glob("*") if path.name.isdigit()]
    version = 1 + max(versions, default=0)
    staging = shelf / f".publishing-{card.name}-{version}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        for name in (KERAS_MODEL, HISTORY, "curves.png"):
            shutil.copyfile(run / name, staging / name)
        export(staging)
        card = _scored(card, staging, arrays)
        card = dataclasses.replace(
            card,
            version=version,
            default=card.rule != "backprop" if default is None else default,
            control=twin,
            distillation=taught,
            files=checksums(staging),
        )
        card = dataclasses.replace(card, corrupted=measure_corrupted(staging, card))
        if samples:
            write_samples(staging, card, arrays)
        if docs is not None:
            _keep_teachers_cards(card, docs / "runs")
        write_card(staging, card)
        endpoint.mkdir(parents=True, exist_ok=True)
        return staging.rename(endpoint / str(version))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _scored(card: Card, folder: Path, arrays: Arrays) -> Card:
    """The card with its test scores, once both model files have been found to agree."""
    if arrays.sha256() != card.training.data_sha256:
        raise PublishError(
            f"{card.dataset} here (SHA-256 {arrays.sha256()[:12]}...) is not the data that the "
            f"model was trained on ({card.training.data_sha256[:12]}...): its test images could "
            "be among its training images"
        )
    logits = keras_logits(folder, arrays.x_test)
    answers = onnx_logits(folder, arrays.x_test)
    agreement(logits, answers, card.calibration.temperature).check()
    scores = score(logits, arrays.y_test)
    title = f"{card.name}: {scores.accuracy:.2%} of {scores.images} test images"
    draw_confusion(scores, card.labels, title, folder / "confusion.png")
    return dataclasses.replace(card, test=scores)


def _control(card: Card, folder: Path, arrays: Arrays) -> Control:
    """The scores of the twin in `folder`, which must differ from `card` in its rule alone."""
    twin = read_card(folder)
    ours, theirs = _what_twins_share(card), _what_twins_share(twin)
    if twin.rule != "backprop" or card.rule == "backprop":
        raise PublishError(
            f"{folder} is no plain twin: expected a run by backprop beside one by another rule, "
            f"found {twin.rule} beside {card.rule}"
        )
    if different := sorted(name for name, value in ours.items() if theirs[name] != value):
        raise PublishError(
            f"{folder} is no twin of {card.name}: it must be {card.endpoint}, the same network "
            f"trained on the same data and backend, by the same recipe but for the rule "
            f"(different: {', '.join(different)})"
        )
    return _reached(twin, folder, arrays)


def _distillation(card: Card, folder: Path | None, arrays: Arrays) -> Distillation | None:
    """What the card says of its teachers, with what the run in `folder` reached without them."""
    if folder is None:
        return card.distillation
    other = read_card(folder)
    ours, theirs = _training_but_for_teachers(card), _training_but_for_teachers(other)
    if card.distillation is None or other.distillation is not None:
        raise PublishError(
            f"{folder} shows nothing about teachers: expected a run without any beside one that "
            f"has some; {card.name} has "
            f"{len(card.distillation.teachers) if card.distillation else 0}, it has "
            f"{len(other.distillation.teachers) if other.distillation else 0}"
        )
    if different := sorted(name for name, value in ours.items() if theirs[name] != value):
        raise PublishError(
            f"{folder} is not the same training without teachers (different: "
            f"{', '.join(different)})"
        )
    return dataclasses.replace(card.distillation, without=_reached(other, folder, arrays))


def _reached(other: Card, folder: Path, arrays: Arrays) -> Control:
    scores = other.test or score(onnx_logits(folder, arrays.x_test), arrays.y_test)
    return Control(
        rule=other.rule,
        seed=other.training.seed,
        validation_accuracy=other.validation.accuracy,
        test_accuracy=scores.accuracy,
        test_interval=scores.interval,
    )


def _keep_teachers_cards(card: Card, runs: Path) -> None:
    """Copy the cards and histories of a model's teachers: a teacher may leave the shelf."""
    for teacher in map(Path, recipe_from(card.training.recipe).teachers):
        known = read_card(teacher)
        target = runs / f"{known.name}-teacher-v{known.version}"
        target.mkdir(parents=True, exist_ok=True)
        for name in (CARD, HISTORY):
            shutil.copyfile(teacher / name, target / name)


def _what_twins_share(card: Card) -> dict[str, object]:
    """All that a training starts from but its rule. Backends draw different initial weights."""
    recipe = dataclasses.replace(recipe_from(card.training.recipe), constants={})
    backend = card.training.backend.partition(",")[0]
    return {
        "endpoint": card.endpoint,
        "backend": backend,
        "parameters": card.parameters,
        "multiply-adds": card.multiply_adds,
        "data": card.training.data_sha256,
        **recipe.as_dict(),
    }


def _training_but_for_teachers(card: Card) -> dict[str, object]:
    """All that a training is made of but for who taught it."""
    recipe = recipe_from(card.training.recipe)
    constants = {"rule": card.rule, "constants": dict(recipe.constants)}
    shared = {**_what_twins_share(card), **constants}
    return {name: value for name, value in shared.items() if not name.startswith("teacher")}
