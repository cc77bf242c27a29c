"""Publish a run in the model repository. Only this step reads the test set."""

import dataclasses
import shutil
from pathlib import Path

from models.cards import (
    CARD,
    KERAS_MODEL,
    Baseline,
    Card,
    Distillation,
    checksums,
    read_card,
    write_card,
)
from models.data.datasets import Arrays, load
from models.errors import MetaplasticError
from models.packaging.export import agreement, export, keras_logits
from models.packaging.plots import draw_confusion
from models.packaging.running import onnx_logits
from models.packaging.scoring import score
from models.publishing.corrupted import measure_corrupted
from models.publishing.int8 import LARGE, add_int8
from models.publishing.samples import write_samples
from models.publishing.versions import next_version
from models.training.recipes import recipe_from
from models.training.runs import HISTORY


class PublishError(MetaplasticError):
    """A run that cannot be published. The message says why and what to do."""


def publish(
    run: Path,
    repository: Path,
    *,
    baseline: Path | None = None,
    without: Path | None = None,
    default: bool | None = None,
    docs: Path | None = None,
    samples: bool = False,
) -> Path:
    """Publish the model in `run` as the newest version in `repository` and return its folder.

    This scores the model on the test set. On all of it, the ONNX model must agree with the Keras
    model. `baseline` is the folder of the same training by backprop (a run or a published model).
    The card gets its scores. `without` is the folder of the same training without teachers.
    `default` says whether the endpoint uses this model when no rule is asked for. By default, it
    does for every rule but `backprop`. A large network gets `model.int8.onnx` too, if its test
    accuracy allows. The folder appears complete, by one rename. `docs`/runs gets the cards of the
    teachers. With `samples`, a few validation pictures are published beside the model.

    Raises PublishError, CardError, DataError or ExportError, and then leaves the repository
    unchanged.
    """
    card = read_card(run)
    card.need_training()
    arrays = load(card.dataset)
    compared = None if baseline is None else _baseline(card, baseline, arrays)
    taught = _distillation(card, without, arrays)
    endpoint = repository / card.dataset / card.architecture / card.rule
    version = next_version(endpoint)
    staging = repository / f".publishing-{card.name}-{version}"
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
            control=compared,
            distillation=taught,
            files=checksums(staging),
            int8=None,
        )
        card = dataclasses.replace(card, corrupted=measure_corrupted(staging, card))
        if card.multiply_adds >= LARGE:
            card, _ = add_int8(staging, card, arrays)
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
    """Return the card with test scores, after a check that both model files agree."""
    data = card.need_training().data_sha256
    if arrays.sha256() != data:
        raise PublishError(
            f"{card.dataset} here (SHA-256 {arrays.sha256()[:12]}...) is not the data that the "
            f"model was trained on ({data[:12]}...): its test images could "
            "be among its training images"
        )
    logits = keras_logits(folder, arrays.x_test)
    answers = onnx_logits(folder, arrays.x_test)
    agreement(logits, answers, card.need_calibration().temperature).check()
    scores = score(logits, arrays.y_test)
    title = f"{card.name}: {scores.accuracy:.2%} of {scores.images} test images"
    draw_confusion(scores, card.labels, title, folder / "confusion.png")
    return dataclasses.replace(card, test=scores)


def _baseline(card: Card, folder: Path, arrays: Arrays) -> Baseline:
    """Return the scores of the baseline in `folder`.

    Raises PublishError unless it differs from `card` in the rule alone.
    """
    other = read_card(folder)
    ours, theirs = _all_but_the_rule(card), _all_but_the_rule(other)
    if other.rule != "backprop" or card.rule == "backprop":
        raise PublishError(
            f"{folder} is not a baseline: expected a run by backprop for a model by another rule, "
            f"found {other.rule} for {card.rule}"
        )
    if different := sorted(name for name, value in ours.items() if theirs[name] != value):
        raise PublishError(
            f"{folder} is not the baseline of {card.name}: it must be {card.endpoint}, the same "
            f"network, trained on the same data and backend, by the same recipe except the rule "
            f"(different: {', '.join(different)})"
        )
    return _scores_of(other, folder, arrays)


def _distillation(card: Card, folder: Path | None, arrays: Arrays) -> Distillation | None:
    """Return the teachers on the card, with the scores of the run without them in `folder`.

    Raises PublishError unless only the teachers differ.
    """
    if folder is None:
        return card.distillation
    other = read_card(folder)
    ours, theirs = _all_but_the_teachers(card), _all_but_the_teachers(other)
    if card.distillation is None or other.distillation is not None:
        raise PublishError(
            f"{folder} shows nothing about teachers: expected a run without teachers for a model "
            f"with teachers; {card.name} has "
            f"{len(card.distillation.teachers) if card.distillation else 0}, the run has "
            f"{len(other.distillation.teachers) if other.distillation else 0}"
        )
    if different := sorted(name for name, value in ours.items() if theirs[name] != value):
        raise PublishError(
            f"{folder} is not the same training without teachers (different: "
            f"{', '.join(different)})"
        )
    return dataclasses.replace(card.distillation, without=_scores_of(other, folder, arrays))


def _scores_of(other: Card, folder: Path, arrays: Arrays) -> Baseline:
    scores = other.test or score(onnx_logits(folder, arrays.x_test), arrays.y_test)
    return Baseline(
        rule=other.rule,
        seed=other.need_training().seed,
        validation_accuracy=other.need_validation().accuracy,
        test_accuracy=scores.accuracy,
        test_interval=scores.interval,
    )


def _keep_teachers_cards(card: Card, runs: Path) -> None:
    """Copy the cards and histories of a model's teachers, which may leave the repository."""
    for teacher in map(Path, recipe_from(card.need_training().recipe).teachers):
        known = read_card(teacher)
        target = runs / f"{known.name}-teacher-v{known.version}"
        target.mkdir(parents=True, exist_ok=True)
        for name in (CARD, HISTORY):
            shutil.copyfile(teacher / name, target / name)


def _all_but_the_rule(card: Card) -> dict[str, object]:
    """Return what determines a training, except the rule and its constants."""
    training = card.need_training()
    recipe = dataclasses.replace(recipe_from(training.recipe), constants={})
    # Only the backend matters, not its version: backends draw different initial weights.
    backend = training.backend.partition(",")[0]
    return {
        "endpoint": card.endpoint,
        "backend": backend,
        "parameters": card.parameters,
        "multiply-adds": card.multiply_adds,
        "data": training.data_sha256,
        **recipe.as_dict(),
    }


def _all_but_the_teachers(card: Card) -> dict[str, object]:
    """Return what determines a training, except its teachers."""
    recipe = recipe_from(card.need_training().recipe)
    constants = {"rule": card.rule, "constants": dict(recipe.constants)}
    shared = {**_all_but_the_rule(card), **constants}
    return {name: value for name, value in shared.items() if not name.startswith("teacher")}
