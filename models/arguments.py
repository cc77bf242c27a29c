"""The command line of `python -m models`."""

import argparse
import math
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.cards import MOST_SIDE
from models.terminal import ArgumentParser

DESCRIPTION = "Train, compare, evaluate, export, publish and list models, and learn from votes."
RUNS = Path("runs")
REPOSITORY = Path("weights")
DOCS = Path("docs")
DATA_SIDES = 28, 256  # pixels of a data set's images


def command_line() -> ArgumentParser:
    """Return the parser of all commands. The chosen command is in `command`."""
    parser = ArgumentParser(prog="python -m models", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    repository = ArgumentParser(add_help=False)
    repository.add_argument(
        *("--repository", "--shelf"),  # --shelf is the name in earlier versions
        type=Path,
        default=REPOSITORY,
        help="the model repository: folder of the published models (default: weights)",
    )
    runs = ArgumentParser(add_help=False)
    runs.add_argument(
        "--runs", type=Path, default=RUNS, help="folder of the trainings (default: runs)"
    )

    cluster = ArgumentParser(add_help=False)
    cluster.add_argument(
        "--on",
        metavar="auto|HOST:PORT",
        help="train on a Ray cluster: that of this machine, or the one whose head is at HOST:PORT",
    )

    train = commands.add_parser("train", parents=[runs], help="train a network")
    train.add_argument("dataset", nargs="?")
    train.add_argument("architecture", nargs="?")
    train.add_argument("--rule", default="metaplastic", help="learning rule (default: metaplastic)")
    train.add_argument("--preset", help="a preset of the network in models/training/recipes.toml")
    train.add_argument("--epochs", type=int)
    train.add_argument("--batch-size", type=int)
    train.add_argument(
        "--validation", type=float, help="share of the training set that is held out"
    )
    train.add_argument("--seed", type=int)
    train.add_argument(
        "--teacher",
        type=Path,
        action="append",
        default=[],
        metavar="RUN",
        help="a run or published model to learn from as well; may be given several times",
    )
    train.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another setting of models/training/recipes.toml, such as metaplastic.strength=0.2",
    )
    train.add_argument(
        "--like",
        type=Path,
        metavar="MODEL",
        help="train a published model again, by the recipe on its card",
    )
    train.add_argument(
        "--data-parallel",
        action="store_true",
        help="divide each batch among all GPUs of this machine; on JAX (KERAS_BACKEND=jax)",
    )
    train.add_argument("--resume", type=Path, metavar="RUN", help="continue an interrupted run")

    train_all = commands.add_parser(
        "train-all",
        parents=[repository, runs, cluster],
        help="train every model of models/training/recipes.toml that does not exist yet",
    )
    train_all.add_argument("--rule", help="only models of this learning rule")
    train_all.add_argument("--preset", help="only this preset ('': only recipes without a preset)")

    compare = commands.add_parser(
        "compare",
        parents=[cluster],
        help="carry out a study, or compare the metaplastic rules on one network",
        description="`compare metaplasticity`, `compare vgg` and `compare learning` carry out the "
        "trials of that study that are missing in docs/results. `compare DATASET ARCHITECTURE` "
        "compares the metaplastic rules with the baseline on the validation split, by default with "
        "5 seeds, 4 epochs and up to 6000 images. Several processes with the same arguments share "
        "the work.",
    )
    compare.add_argument("what", metavar="STUDY or DATASET")
    compare.add_argument("architecture", nargs="?")
    compare.add_argument("--seeds", type=int, help="number of seeds")
    compare.add_argument("--epochs", type=int, help="epochs of each trial")
    compare.add_argument("--images", type=int, help="training images of each trial")
    compare.add_argument(
        "--part", action="append", default=[], help="only this condition of a study"
    )
    compare.add_argument(
        "--results", type=Path, default=DOCS / "results", help="results of the studies"
    )
    compare.add_argument(
        "--studies", type=Path, default=Path("trials"), help="unfinished trials of the studies"
    )
    compare.add_argument(
        "--comparisons",
        type=Path,
        default=Path("comparisons"),
        help="results and unfinished trials of `compare DATASET ARCHITECTURE`",
    )

    report = commands.add_parser(
        "report", parents=[repository], help="write the generated pages of docs/ again"
    )
    report.add_argument(
        "page",
        nargs="?",
        choices=("metaplasticity", "vgg", "learning", "brainprop", "training"),
    )
    report.add_argument(
        "--docs",
        type=Path,
        default=DOCS,
        help="folder of the pages, beside README.md (default: docs)",
    )

    _data(commands)

    evaluate = commands.add_parser(
        "evaluate", parents=[repository], help="measure models again and compare with their cards"
    )
    evaluate.add_argument("what", nargs="*", help="DATASET ARCHITECTURE, or the folder of a model")
    evaluate.add_argument("--rule", help="only models of this learning rule")
    evaluate.add_argument("--all", action="store_true", help="all published models")
    evaluate.add_argument(
        "--corrupted",
        action="store_true",
        help="measure on corrupted images; a published model's card gets the result",
    )

    calibrate = commands.add_parser(
        "calibrate", parents=[repository], help="calibrate published models again"
    )
    calibrate.add_argument(
        "folder",
        type=Path,
        nargs="*",
        help="folders of the models; without one, all published models",
    )

    export = commands.add_parser("export", help="write model.onnx from model.keras")
    export.add_argument("folder", type=Path, nargs="+", help="of a run or a published model")
    export.add_argument(
        "--int8",
        action="store_true",
        help="also write model.int8.onnx; of a published model it is measured on the test set, and "
        "kept where the accuracy changes by at most 0.1 points",
    )

    publish = commands.add_parser(
        "publish", parents=[repository], help="publish a run in the model repository"
    )
    publish.add_argument("run", type=Path)
    publish.add_argument(
        *("--baseline", "--control"),  # --control is the name in earlier versions
        type=Path,
        metavar="RUN",
        help="the same training by backprop: a run or published model",
    )
    publish.add_argument(
        "--without",
        type=Path,
        metavar="RUN",
        help="the same training without teachers: a run or published model",
    )
    publish.add_argument(
        "--docs",
        type=Path,
        default=DOCS,
        help="folder for the cards of the teachers (default: docs)",
    )
    publish.add_argument(
        "--default",
        action=argparse.BooleanOptionalAction,
        help="whether the endpoint uses this model when no rule is asked for",
    )
    publish.add_argument(
        "--publish-samples",
        action="store_true",
        help="put a few validation pictures beside the model, for Swagger and the demo to show",
    )

    _import(commands, repository)
    learn = commands.add_parser(
        "learn",
        parents=[repository],
        help="let a published model learn from the votes on its answers",
        description="Reads the votes of METAPLASTIC_FEEDBACK and adds a new version, the "
        "challenger, to METAPLASTIC_WEIGHTS. It becomes the champion if it passes the gates of "
        "docs/learning.md. With METAPLASTIC_CANARY an undecided one waits for thumbs.",
    )
    learn.add_argument("endpoint", metavar="DATASET/ARCHITECTURE")
    learn.add_argument("--rule", help="of the model (default: that of the endpoint)")
    learn.add_argument("--seed", type=int, default=0, help="of the learner (0)")
    learn.add_argument("--watch", action="store_true", help="stay beside the service")
    learn.add_argument(
        "--every", type=float, default=60.0, help="seconds between looks with --watch (60)"
    )
    learn.add_argument(
        "--pack-home",
        action="store_true",
        help="only write home.npz beside the published model, for a learner without the data set",
    )

    listing = commands.add_parser(
        "list", parents=[repository, runs], help="list published models and runs"
    )
    listing.add_argument("--markdown", action="store_true", help="print the table of README.md")
    return parser


def _import(commands: Any, repository: ArgumentParser) -> None:
    bring = commands.add_parser(
        "import",
        parents=[repository],
        help="publish a network that was trained elsewhere",
        description="MODEL is an ONNX file, a Keras file (.keras, .h5) or the folder of a "
        "SavedModel, with one input, pictures, and one output, a number for each class.",
    )
    bring.add_argument("name", metavar="NAME/ARCHITECTURE", help="its endpoint: birds/resnet-18")
    bring.add_argument("model", type=Path, metavar="MODEL")
    bring.add_argument(
        "--labels", type=Path, required=True, help="a text file: a line for each class, in order"
    )
    bring.add_argument(
        "--scale",
        type=_number,
        help="a pixel from 0 to 255 becomes (scale * pixel - mean) / std: 1/255, 1 or 1/127.5",
    )
    bring.add_argument("--mean", type=_numbers, default=(0.0,), help="0.5, or 0.485,0.456,0.406")
    bring.add_argument("--std", type=_numbers, default=(1.0,), help="above 0; 0.229,0.224,0.225")
    bring.add_argument("--bgr", action="store_true", help="blue comes first, as OpenCV has it")
    bring.add_argument("--layout", choices=("NHWC", "NCHW"), help="the order of the axes")
    bring.add_argument(
        "--size", type=_sides(1, MOST_SIDE), help="64, or HEIGHTxWIDTH, where the model has none"
    )
    bring.add_argument("--channels", type=int, choices=(1, 3), help="where the model has none")
    bring.add_argument(
        "--outputs", choices=("logits", "probabilities"), help="where they do not show it"
    )
    bring.add_argument(
        "--style",
        choices=("photo", "digit", "garment"),
        default="photo",
        help="how the service prepares pictures (photo)",
    )
    bring.add_argument(
        "--resize",
        choices=("crop", "pad", "stretch", "fit"),
        default="crop",
        help="what a photo of other proportions becomes (crop)",
    )
    bring.add_argument(
        "--calibrate",
        type=Path,
        metavar="FOLDER",
        help="labelled pictures, as for `data add`: accuracy, temperature and energy threshold",
    )


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
    add.add_argument(
        "--size", type=_sides(*DATA_SIDES), default=(64, 64), help="64, or HEIGHTxWIDTH (64)"
    )
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


def _sides(least: int, most: int) -> Callable[[str], tuple[int, int]]:
    """Return a parser of `64` or `48x64` to (height, width), each from `least` to `most`."""

    def parse(text: str) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
        sides = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not all(least <= side <= most for side in sides):
            raise argparse.ArgumentTypeError(
                f"expected pixels from {least} to {most}, as in 64 or 48x64 (height x width); "
                f"found {text!r}"
            )
        return sides

    return parse


def _number(text: str) -> float:
    """Return the number `0.0039` or `1/255`, which is above 0."""
    try:
        above, _, below = text.partition("/")
        found = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        found = 0.0
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(
            f"expected a number above 0, such as 1/255; found {text!r}"
        )
    return found


def _numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of `0.485,0.456,0.406`."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise argparse.ArgumentTypeError(
            f"expected numbers joined by commas, such as 0.485,0.456,0.406; found {text!r}"
        )
    return found


def _setting(text: str) -> tuple[str, Any]:
    """Return (name, value) from `name=value` with a TOML value. Raises ArgumentTypeError."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise argparse.ArgumentTypeError(
            f"expected name=value with a TOML value, such as network.dropout=0.2; found {text!r}"
        ) from error
