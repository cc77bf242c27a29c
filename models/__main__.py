"""`python -m models`: train, compare, evaluate, export, publish, list and learn from votes."""

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

# Set before TensorFlow is imported, so that its notices do not bury our output. Errors are raised.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from models.arguments import REPOSITORY, command_line
from models.cards import (
    INT8_MODEL,
    Card,
    Int8,
    find_models,
    read_card,
    write_card,
)
from models.errors import MetaplasticError
from models.quiet import import_keras
from models.signals import INTERRUPTED, end_as_by_ctrl_c, end_by_the_signal
from models.terminal import one_line, say

# These commands start fast. All others import Keras, inside their own functions.
WITHOUT_KERAS = ("data", "import", "list")


def main(arguments: Sequence[str]) -> int:
    """Carry out one command and return the exit status: 0 for success, 1 for a failure.

    A wrong command line ends the process with status 2.
    """
    parser = command_line()
    wanted = parser.parse_args(arguments)
    wanted.arguments = arguments
    try:
        if wanted.command not in WITHOUT_KERAS:
            import_keras()
        status: int = COMMANDS[wanted.command](wanted, parser)
    except MetaplasticError as error:
        say(f"{parser.prog} {wanted.command}: {error}", sys.stderr)
        return 1
    except KeyboardInterrupt:  # of commands that have nothing to say about how to continue
        say("\ninterrupted", sys.stderr)
        return INTERRUPTED
    return status


def _train(wanted: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from models.data.datasets import load
    from models.training.data_parallel import count_devices
    from models.training.distillation import teachers_of
    from models.training.recipes import recipe_for, recipe_from
    from models.training.runs import open_run, start_run
    from models.training.train import train

    command = _for_the_card(wanted.arguments, {wanted.runs})
    if wanted.resume is not None:
        run = open_run(wanted.resume)
    elif wanted.like is not None:
        card = read_card(wanted.like)
        recipe = recipe_from(card.need_training().recipe)
        load(card.dataset)
        teachers_of(recipe, card.dataset)
        if wanted.data_parallel:
            count_devices(recipe.batch_size)
        run = start_run(*(wanted.runs, card.dataset, card.architecture, card.rule, recipe, command))
    elif wanted.dataset is None or wanted.architecture is None:
        parser.error("train needs a data set and an architecture, or --like MODEL, or --resume RUN")
    else:
        named = {
            "preset": wanted.preset,
            "epochs": wanted.epochs,
            "batch_size": wanted.batch_size,
            "validation": wanted.validation,
            "seed": wanted.seed,
        }
        overrides = {name: value for name, value in named.items() if value is not None}
        overrides |= {"teachers": list(map(str, wanted.teacher))} if wanted.teacher else {}
        overrides |= dict(wanted.set)
        recipe = recipe_for(wanted.dataset, wanted.architecture, wanted.rule, overrides)
        arrays = load(wanted.dataset)  # without data or teachers there is nothing to start
        if arrays.validation is not None and wanted.validation is not None:
            parser.error(f"{wanted.dataset} has validation pictures of its own: no --validation")
        arrays.split(recipe.validation)
        teachers_of(recipe, wanted.dataset)
        if wanted.data_parallel:
            count_devices(recipe.batch_size)
        run = start_run(
            wanted.runs, wanted.dataset, wanted.architecture, wanted.rule, recipe, command
        )
    say(f"training {run.dataset} {run.architecture} {run.rule} in {run.folder}")
    try:
        card = train(run, wanted.data_parallel)
    except KeyboardInterrupt:
        say(
            "\ninterrupted; continue with: python -m models train --resume "
            f"{shlex.quote(str(run.folder))}",
            sys.stderr,
        )
        return INTERRUPTED
    reached, training = card.need_validation(), card.need_training()
    say(
        f"{run.folder}: {reached.accuracy:.2%} of {reached.images} validation images, epoch "
        f"{training.best_epoch} of {training.epochs}, {training.seconds:.0f} s"
    )
    return 0


def _train_all(wanted: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from models.training.train_all import plan, train_planned

    rows = []
    planned = [
        model
        for model in plan(wanted.repository, wanted.runs)
        if wanted.rule in (None, model.rule) and wanted.preset in (None, model.recipe.preset)
    ]
    if not planned:
        raise MetaplasticError("models/training/recipes.toml has no model of this rule and preset")
    cards = {} if wanted.on is None else _trained_on_cluster(planned, wanted)
    for number, model in enumerate(planned, start=1):
        card = model.card or cards.get(model.name)
        if card is None:
            say(f"{number} of {len(planned)}: {model.name}")
            try:
                card = train_planned(model, wanted.runs)
            except KeyboardInterrupt:
                say("\ninterrupted; the same command continues from here", sys.stderr)
                return INTERRUPTED
        training = card.need_training()
        rows.append(
            (
                model.name,
                f"{card.need_validation().accuracy:.2%}",
                f"{card.test.accuracy:.2%}" if card.test else "-",
                f"{training.best_epoch} of {training.epochs}",
                f"{training.seconds:.0f}",
                "trained now" if model.card is None else str(model.folder),
            )
        )
    _print_table(("model", "validation", "test", "epoch kept", "s", "where"), rows)
    return 0


def _trained_on_cluster(planned: Iterable[Any], wanted: argparse.Namespace) -> dict[str, Card]:
    """Train the planned models that are missing on a cluster, and return their cards by name."""
    from models.training.on_ray import Trainings
    from models.training.train_all import open_planned, train_folder

    missing = [model for model in planned if model.card is None]
    cards = {}
    with closing(Trainings(wanted.on, {model.dataset for model in missing})) as trainings:
        while missing or trainings.flying:
            while missing and len(trainings.flying) < trainings.slots():
                model = missing.pop(0)
                run = open_planned(model, wanted.runs.absolute())
                trainings.start(model.name, train_folder, run.folder)
            name, cards[name] = trainings.first_ended()
            say(f"{len(cards)} trained: {name}")
    return cards


def _compare(wanted: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from studies.commands import STUDIES, run_comparison, run_study
    from studies.plan import Limits

    if wanted.what not in STUDIES:
        if wanted.architecture is None or wanted.part:
            parser.error(f"compare needs a data set and an architecture, or {' or '.join(STUDIES)}")
    elif wanted.architecture is not None:
        parser.error(f"compare {wanted.what} takes no architecture")
    if wanted.on is not None and wanted.architecture is not None:
        parser.error("compare DATASET ARCHITECTURE is done on this machine: no --on")
    limits = Limits(wanted.seeds, wanted.epochs, wanted.images, tuple(wanted.part))
    try:
        if wanted.architecture is None:
            header, *rows = run_study(
                wanted.what, limits, wanted.results, wanted.studies, wanted.on
            )
        else:
            header, *rows = run_comparison(
                wanted.what, wanted.architecture, limits, wanted.comparisons
            )
    except KeyboardInterrupt:
        say("\ninterrupted; the same command continues from here", sys.stderr)
        return INTERRUPTED
    _print_table(header, rows)
    return 0


def _report(wanted: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from studies.commands import PAGES, write_report

    for page in [wanted.page] if wanted.page else PAGES:
        say(write_report(page, wanted.docs, wanted.repository))
    return 0


def _data(wanted: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from models.data import commands

    if wanted.action == "add":
        return commands.add(wanted)
    if wanted.action == "remove":
        commands.remove(wanted.name)
    elif wanted.action == "show":
        _print_table(*commands.show(wanted.name, wanted.out))
    else:
        _print_table(*commands.list_data_sets())
    return 0


def _evaluate(wanted: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from models.publishing.evaluate import evaluate

    if wanted.all:
        found = _newest(_trained(wanted.repository))
    elif wanted.what and len(wanted.what) == 2:
        dataset, architecture = wanted.what
        found = _newest(find_models(wanted.repository / dataset / architecture))
    elif wanted.what and len(wanted.what) == 1:
        folder = Path(wanted.what[0])
        found = [(folder, read_card(folder))]
    else:
        parser.error("evaluate needs a data set and an architecture, a model's folder, or --all")
    if wanted.rule:
        found = [(folder, card) for folder, card in found if card.rule == wanted.rule]
    # What was imported stands beside networks that can be evaluated; alone, the error names it.
    found = [(folder, card) for folder, card in found if card.training] or found
    if not found:
        raise MetaplasticError(
            f"no such model in {wanted.repository}; `python -m models list` shows all"
        )
    if wanted.corrupted:
        return _evaluate_corrupted(found)
    rows = []
    holds = True
    for folder, card in found:
        result = evaluate(folder, card)
        holds &= result.holds
        scores, name = result.scores, f"{card.name} v{card.version}"
        rows.append(
            (
                *(
                    name,
                    f"{scores.images} {result.split}",
                    *_accuracy(scores.accuracy, scores.interval),
                ),
                f"{result.claimed.accuracy:.2%}" + ("" if result.float_holds else "  DIFFERS"),
                f"{result.calibration_error:.4f}",
                f"{result.agreement.max_difference:.1e}",
                f"{result.seconds:.1f}",
            )
        )
        if (int8 := result.int8) is not None:
            rows.append(
                (
                    *(
                        f"{name} int8",
                        f"{int8.images} {result.split}",
                        *_accuracy(int8.accuracy, int8.interval),
                    ),
                    f"{result.int8_claimed:.2%}" + ("" if result.int8_holds else "  DIFFERS"),
                    f"{int8.calibration_error:.4f}",
                    *(f"{int8.changed:.2%} changed", ""),
                )
            )
    header = ("model", "images", "accuracy", "95 % interval", "card", "ECE", "Keras-ONNX", "s")
    _print_table(header, rows)
    return 0 if holds else 1


def _accuracy(accuracy: float, interval: tuple[float, float]) -> tuple[str, str]:
    low, high = interval
    return f"{accuracy:.2%}", f"{low:.2%} - {high:.2%}"


def _evaluate_corrupted(found: Sequence[tuple[Path, Card]]) -> int:
    from models.data.corruptions import NAMES
    from models.publishing.corrupted import measure_corrupted

    columns = []
    for folder, card in found:
        result = measure_corrupted(folder, card)
        if card.test is not None:
            write_card(folder, dataclasses.replace(card, corrupted=result))
        shares = (result.accuracy, *(result.by_corruption[name] for name in NAMES))
        told = "-" if result.wrong_auroc is None else f"{result.wrong_auroc:.3f}"
        cells = (*(f"{share:.2%}" for share in shares), told)
        columns.append((f"{card.name} v{card.version}", *cells))
        say(f"{card.name}: {result.accuracy:.2%}", sys.stderr)
    names = ("corruption", "mean", *NAMES, "AUROC of the energy score")
    header, *rows = zip(names, *columns, strict=True)
    _print_table(header, rows)
    return 0


def _calibrate(wanted: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from models.publishing.recalibrate import calibrate_again

    rows = []
    for folder in wanted.folder or [folder for folder, _ in _trained(wanted.repository)]:
        card = calibrate_again(folder)
        fitted = card.need_calibration()
        rows.append(
            (
                *(f"{card.name} v{card.version}", f"{fitted.temperature:.4f}"),
                *(f"{fitted.energy_threshold:.4f}", f"{fitted.least_contrast:.4f}"),
            )
        )
    _print_table(("model", "temperature", "energy threshold", "least contrast"), rows)
    return 0


def _export(wanted: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from models.publishing.exporting import export_again

    status = 0
    for folder in wanted.folder:
        done = export_again(folder, wanted.int8)
        say(done.path)
        if done.int8 is not None and done.card is not None:
            kept = done.card.int8 is not None
            status |= not kept
            say(f"{INT8_MODEL}: {_in_8_bits(done.card, done.int8)}{'' if kept else '; left out'}")
    return status


def _in_8_bits(card: Card, found: Int8) -> str:
    """Return the accuracy of both files, and how many answers are others."""
    if card.test is None or found.test_accuracy is None:
        before, after = card.need_validation().accuracy, found.validation_accuracy
        split = "validation"
    else:
        split, before, after = "test", card.test.accuracy, found.test_accuracy
    return f"{after:.2%} of {split} images ({before:.2%} before), {found.changed:.2%} changed"


def _publish(wanted: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from models.publishing.publish import publish

    folder = publish(
        wanted.run,
        wanted.repository,
        baseline=wanted.baseline,
        without=wanted.without,
        default=wanted.default,
        docs=wanted.docs,
        samples=wanted.publish_samples,
    )
    card = read_card(folder)
    test = card.test
    assert test is not None
    low, high = test.interval
    say(f"{folder}: {test.accuracy:.2%} of {test.images} test images ({low:.2%} - {high:.2%})")
    if card.int8 is not None:
        say(f"{INT8_MODEL}: {_in_8_bits(card, card.int8)}")
    return 0


def _import(wanted: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from models.publishing.importing import Said, import_model, query_of

    said = Said(**{field.name: getattr(wanted, field.name) for field in dataclasses.fields(Said)})
    places = {wanted.model, wanted.labels, wanted.repository, wanted.calibrate}
    command = _for_the_card(wanted.arguments, places)
    try:
        done = import_model(wanted.name, wanted.model, said, wanted.repository, command)
    except OSError as error:
        raise MetaplasticError(f"{wanted.name} was not imported: {error}") from error
    card = done.card
    image, origin = card.input, card.imported
    assert origin is not None
    say(
        f"{done.folder}: {origin.format}, {image.height}x{image.width}x{image.channels} pixels as "
        f"{origin.datatype} {origin.layout}, {len(card.labels)} {origin.outputs}, "
        f"{card.parameters:,} parameters, {origin.milliseconds:g} ms for a picture"
    )
    if card.validation is None or card.calibration is None:
        say("not calibrated: in_distribution will be null (--calibrate FOLDER measures it)")
    else:
        share, interval = _accuracy(card.validation.accuracy, card.validation.interval)
        say(
            f"{share} of {card.validation.images} pictures ({interval}), temperature "
            f"{card.calibration.temperature:.3f}"
        )
    for note in done.notes:
        say(f"note: {note}", sys.stderr)
    elsewhere = f"METAPLASTIC_WEIGHTS={shlex.quote(str(wanted.repository))} "
    served = "" if wanted.repository == REPOSITORY else elsewhere
    say(f"serve it: {served}python wsgi.py")
    url = f"localhost:5000/api/{card.endpoint}{query_of(done.folder, card)}"
    say(f"ask it:   curl -F file=@picture.jpg {shlex.quote(url)}")
    return 0


def _for_the_card(arguments: Sequence[str], places: Collection[Path | None]) -> str:
    """Return the command line for a card, which is public: `places` by their last names alone."""
    words = (_without_folders(word, places) for word in arguments)
    return shlex.join(["python", "-m", "models", *words])


def _without_folders(word: str, places: Collection[Path | None]) -> str:
    """Return a word of a command line; of one of the `places`, its last name alone."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + equals + (Path(value).name or value if Path(value) in places else value)


def _learn(wanted: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from models.learning.challenger import published_version
    from models.learning.home import write_home
    from models.learning.learner import Settings
    from models.learning.watch import learn_from_store, sentence, versions_folder, watch
    from models.votes import close_store, open_store

    named = os.environ.get("METAPLASTIC_WEIGHTS")
    repository = Path(named) if named and wanted.repository == REPOSITORY else wanted.repository
    folder = versions_folder(repository, wanted.endpoint, wanted.rule)
    if wanted.pack_home:
        say(write_home(*published_version(folder)))
        return 0
    url = os.environ.get("METAPLASTIC_FEEDBACK")
    if not url:
        raise MetaplasticError(
            "METAPLASTIC_FEEDBACK is not set: it names the store of votes, such as "
            "sqlite:///feedback.db, as for the service"
        )
    try:
        canary = float(os.environ.get("METAPLASTIC_CANARY") or 0) > 0
    except ValueError as error:
        raise MetaplasticError(f"METAPLASTIC_CANARY: expected a number ({error})") from error
    settings, store = Settings(seed=wanted.seed), open_store(url)
    try:
        if wanted.watch:
            watch(folder, store, settings, canary=canary, every=wanted.every, say=say)
        else:
            say(sentence(learn_from_store(folder, store, settings, canary=canary)))
    finally:
        close_store(store)
    return 0


def _list(wanted: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if wanted.markdown:
        from models.publishing.readme_table import models_table

        say(models_table(wanted.repository))
        return 0
    from models.training.runs import find_runs, read_history

    rows = [
        (
            card.name,
            f"v{card.version}" if card.test or card.imported or card.learned else "run",
            f"{card.parameters:,}",
            f"{card.validation.accuracy:.2%}" if card.validation else "-",
            f"{card.test.accuracy:.2%}" if card.test else "-",
            f"{card.control.test_accuracy:.2%}" if card.control else "-",
            str(folder),
        )
        for root in (wanted.repository, wanted.runs)
        for folder, card in find_models(root)
    ]
    header = ("model", "version", "parameters", "validation", "test", "baseline", "folder")
    _print_table(header, rows)
    for folder in find_runs(wanted.runs):
        say(f"unfinished after {len(read_history(folder))} epochs: {folder}")
    return 0


def _trained(repository: Path) -> Iterator[tuple[Path, Card]]:
    """Yield the models in `repository` that were trained here."""
    return ((folder, card) for folder, card in find_models(repository) if card.training)


def _newest(models: Iterable[tuple[Path, Card]]) -> list[tuple[Path, Card]]:
    """Return the newest published version of each model; one that learned from votes is none."""
    newest: dict[str, tuple[Path, Card]] = {}
    for folder, card in models:
        if card.learned is not None:
            continue
        if card.name not in newest or newest[card.name][1].version < card.version:
            newest[card.name] = folder, card
    return list(newest.values())


def _print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    rows = [tuple(map(one_line, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, tuple("-" * width for width in widths), *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


# Each function carries out one command and returns the exit status.
COMMANDS = {
    "train": _train,
    "train-all": _train_all,
    "compare": _compare,
    "report": _report,
    "data": _data,
    "evaluate": _evaluate,
    "calibrate": _calibrate,
    "export": _export,
    "publish": _publish,
    "import": _import,
    "learn": _learn,
    "list": _list,
}


if __name__ == "__main__":
    end_as_by_ctrl_c()
    status = main(sys.argv[1:])
    if status == INTERRUPTED:
        # Threads of the backend may still prepare batches. They crash if Python's regular exit
        # destroys the interpreter first.
        sys.stdout.flush()
        sys.stderr.flush()
        end_by_the_signal()
        os._exit(status)
    sys.exit(status)
