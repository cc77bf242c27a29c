"""The command line of `python -m models`."""

import argparse
import re
import tomllib
from pathlib import Path
from typing import Any

from models.terminal import ArgumentParser

DESCRIPTION = "Train, compare, evaluate, export, publish and list models."
RUNS = Path("runs")
SHELF = Path("weights")
DOCS = Path("docs")
LEAST_SIDE, MOST_SIDE = 28, 256  # pixels of a data set's images


def command_line() -> ArgumentParser:
    """The commands and their options; `command` names the one that is called."""
    parser = ArgumentParser(prog="python -m models", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    shelf = ArgumentParser(add_help=False)
    shelf.add_argument("--shelf", type=Path, default=SHELF, help="published models (weights)")
    runs = ArgumentParser(add_help=False)
    runs.add_argument("--runs", type=Path, default=RUNS, help="where trainings live (runs)")

    train = commands.add_parser("train", parents=[runs], help="train a network")
    train.add_argument("dataset", nargs="?")
    train.add_argument("architecture", nargs="?")
    train.add_argument("--rule", default="metaplastic", help="learning rule (metaplastic)")
    train.add_argument(
        "--preset", help="one of the network's presets in models/training/recipes.toml"
    )
    train.add_argument("--epochs", type=int)
    train.add_argument("--batch-size", type=int)
    train.add_argument("--validation", type=float, help="share of the training set held out")
    train.add_argument("--seed", type=int)
    train.add_argument(
        "--teacher",
        type=Path,
        action="append",
        default=[],
        metavar="RUN",
        help="a run or published model whose soft answers teach too; of several, their mean",
    )
    train.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting of models/training/recipes.toml, as in metaplastic.strength=0.2",
    )
    train.add_argument(
        "--like",
        type=Path,
        metavar="MODEL",
        help="make a published model again, by its card's recipe and not today's",
    )
    train.add_argument("--resume", type=Path, metavar="RUN", help="go on with an interrupted run")

    train_all = commands.add_parser(
        "train-all",
        parents=[shelf, runs],
        help="train what models/training/recipes.toml has and neither the shelf nor the runs have",
    )
    train_all.add_argument("--rule", help="only the models of this rule")
    train_all.add_argument("--preset", help="only this preset ('': only what is none)")

    compare = commands.add_parser(
        "compare",
        help="a study: train what docs/results lacks of it; or the metaplastic rules on a network",
        description="`compare metaplasticity` and `compare vgg` train what docs/results lacks of "
        "that study; several processes share the work. `compare DATASET ARCHITECTURE` compares the "
        "metaplastic rules with plain backprop on the validation split, with 5 seeds, 4 epochs and "
        "up to 6000 images unless told otherwise.",
    )
    compare.add_argument("what", metavar="STUDY or DATASET")
    compare.add_argument("architecture", nargs="?")
    compare.add_argument("--seeds", type=int, help="other than the study's own")
    compare.add_argument("--epochs", type=int)
    compare.add_argument("--images", type=int, help="training images")
    compare.add_argument("--part", action="append", default=[], help="only this part of a study")
    compare.add_argument("--results", type=Path, default=DOCS / "results")
    compare.add_argument("--studies", type=Path, default=Path("studies"), help="unfinished trials")
    compare.add_argument("--comparisons", type=Path, default=Path("comparisons"))

    report = commands.add_parser(
        "report", parents=[shelf], help="renew the pages of docs/, all or one, from what is known"
    )
    report.add_argument(
        "page", nargs="?", choices=("metaplasticity", "vgg", "brainprop", "training")
    )
    report.add_argument("--docs", type=Path, default=DOCS, help="beside README.md (docs)")

    _data(commands)

    evaluate = commands.add_parser("evaluate", parents=[shelf], help="measure models again")
    evaluate.add_argument("what", nargs="*", help="DATASET ARCHITECTURE, or a model's folder")
    evaluate.add_argument("--rule")
    evaluate.add_argument("--all", action="store_true", help="every published model")
    evaluate.add_argument(
        "--corrupted",
        action="store_true",
        help="on spoilt pictures; goes into the card of a published model",
    )

    calibrate = commands.add_parser(
        "calibrate", parents=[shelf], help="fit the calibration of published models again"
    )
    calibrate.add_argument("folder", type=Path, nargs="*", help="only these models")

    export = commands.add_parser("export", help="write model.onnx from model.keras")
    export.add_argument("folder", type=Path)

    publish = commands.add_parser("publish", parents=[shelf], help="put a run on the shelf")
    publish.add_argument("run", type=Path)
    publish.add_argument("--control", type=Path, help="folder of the plain twin")
    publish.add_argument(
        "--without", type=Path, metavar="RUN", help="the same training without its teachers"
    )
    publish.add_argument("--docs", type=Path, default=DOCS, help="where teachers' cards go (docs)")
    publish.add_argument("--default", action=argparse.BooleanOptionalAction)
    publish.add_argument(
        "--publish-samples",
        action="store_true",
        help="put a few validation pictures beside the model, for Swagger and the demo to show",
    )

    listing = commands.add_parser("list", parents=[shelf, runs], help="published models and runs")
    listing.add_argument(
        "--markdown", action="store_true", help="the published models as the README's table"
    )
    return parser


def _data(commands: Any) -> None:
    data = commands.add_parser("data", help="the data sets there are; add your own pictures")
    actions = data.add_subparsers(dest="action", title="without one, what there is is listed")

    add = actions.add_parser(
        "add",
        help="make a data set of a folder of pictures",
        description="SOURCE is a folder with a folder for each class (or train, val and test "
        "folders above those), a table with the columns file and label, or a zip file of either. "
        "A built-in data set needs none: it is downloaded.",
    )
    add.add_argument("name")
    add.add_argument("source", nargs="?", type=Path, metavar="SOURCE")
    add.add_argument("--size", type=_size, default=(64, 64), help="64, or HEIGHTxWIDTH (64)")
    add.add_argument("--channels", type=int, choices=(1, 3), help="grey or colour (by the style)")
    add.add_argument(
        "--style",
        choices=("photo", "digit", "garment"),
        default="photo",
        help="how pictures are prepared, here and in the service (photo)",
    )
    add.add_argument(
        "--resize",
        choices=("crop", "pad", "stretch"),
        default="crop",
        help="what a photo of other proportions becomes (crop)",
    )
    add.add_argument(
        "--test", type=float, default=0.15, help="share of each class, where no test folder is"
    )
    add.add_argument("--seed", type=int, default=0, help="of that choice (0)")

    remove = actions.add_parser("remove", help="remove a data set that was added")
    remove.add_argument("name")

    show = actions.add_parser("show", help="draw some pictures and a histogram of the classes")
    show.add_argument("name")
    show.add_argument("--out", type=Path, metavar="PNG", help="where to (NAME.png)")


def _size(text: str) -> tuple[int, int]:
    """(height, width) of `64` or `48x64`."""
    found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
    sides = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not all(LEAST_SIDE <= side <= MOST_SIDE for side in sides):
        raise argparse.ArgumentTypeError(
            f"expected pixels from {LEAST_SIDE} to {MOST_SIDE}, as in 64 or 48x64 (height x "
            f"width); found {text!r}"
        )
    return sides


def _setting(text: str) -> tuple[str, Any]:
    """`name=value` with a TOML value, as `--set` takes it."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise argparse.ArgumentTypeError(
            f"expected name=value with a TOML value, as in network.dropout=0.2; found {text!r}"
        ) from error
