"""docs/vgg.md: the effect of each ingredient of the VGG, made from docs/results alone."""

import statistics
from pathlib import Path

from models.publishing.markdown import table
from studies.figures import draw_ingredients
from studies.groups import INGREDIENTS, VARIANTS
from studies.results import Tables, read_curves, read_done
from studies.statistics import Difference
from studies.summary import (
    UNMEASURED,
    VERDICTS,
    Line,
    backends_and_hardware,
    lines,
    mean_and_deviation,
    paired,
    percent,
    points,
)

COMMAND = "python -m models compare vgg"
TEST_IMAGES = 10_000
BASE = "3-blocks"


def page(results: Path, images: Path) -> str:
    """Return the text of the page, and draw its figure into `images`, a folder beside the page."""
    tables = Tables(results, "vgg")
    found = {line.condition: line for line in lines(INGREDIENTS, read_done(tables))}
    if not found:
        return "\n\n".join([_QUESTION, "## The answer", f"{UNMEASURED} `{COMMAND}`"]) + "\n"
    draw_ingredients(list(found.values()), read_curves(tables), images / "vgg-curves.svg")
    sections = [
        _QUESTION,
        "## The answer",
        _answer(found),
        "## Accuracy",
        _table(found),
        _reading(found),
        "![Training and validation accuracy by epoch](images/vgg-curves.svg)",
        "## How it was measured",
        _method(found),
    ]
    return "\n\n".join(sections) + "\n"


_ALONE = ("batch-norm", "l2", "dropout", "augmentation")


def gain(ours: Line, theirs: Line) -> Difference:
    """Return the difference of the test accuracies with its 95 % interval.

    If both lines share two or more seeds, the difference is paired. With a single seed, the
    interval is that of the difference of two shares of TEST_IMAGES images. It says nothing about
    other seeds.
    """
    difference = paired(ours.ours, theirs.ours, same_backend=False).difference("test")
    if difference is not None:
        return difference
    our, their = ours.values("test")[0], theirs.values("test")[0]
    # The normal approximation: 1.959964 is the 97.5 % quantile of the normal distribution.
    variance = (our * (1 - our) + their * (1 - their)) / TEST_IMAGES
    half = 1.959964 * variance**0.5
    return Difference(our - their, our - their - half, our - their + half)


def _gains(found: dict[str, Line]) -> dict[str, Difference]:
    """Return the gain of each variant over three blocks alone with the same budget."""
    base = found[BASE]
    return {
        name: gain(line, base)
        for name, line in found.items()
        if name != BASE and (line.images, line.epochs) == (base.images, base.epochs)
    }


def _answer(found: dict[str, Line]) -> str:
    blocks = ", ".join(
        f"{percent(line)} % with {name.replace('-', ' ')}"
        for name, line in found.items()
        if "block" in name
    )
    said = [f"- Blocks alone reach {blocks}."]
    if BASE not in found:
        return said[0]
    gains = _gains(found)
    alone = sorted((n for n in _ALONE if n in gains), key=lambda name: -gains[name].mean)
    for name in alone:
        said.append(f"- {name} alone: {_verdict(gains[name], found[name])}.")
    if "all" in gains:
        said.append(
            f"- All together: {percent(found['all'])} %; {_verdict(gains['all'], found['all'])}."
        )
    return "\n".join(said)


def _table(found: dict[str, Line]) -> str:
    gains = _gains(found) if BASE in found else {}
    body = []
    for name, line in found.items():
        train, validation = (statistics.mean(line.values(x)) for x in ("train", "validation"))
        body.append(
            [
                *(name, str(line.seeds), f"{100 * train:.1f}", f"{100 * validation:.1f}"),
                f"{100 * (train - validation):+.1f}",
                mean_and_deviation(line.values("test")),
                points(gains[name]) if name in gains else "",
                VARIANTS[name].published,
            ]
        )
    header = ("network", "seeds", "training, %", "validation, %", "gap", "test, % (sd)")
    return table((*header, "difference from 3 blocks alone, 95 %", "published, %"), body)


def _reading(found: dict[str, Line]) -> str:
    single = any(line.seeds == 1 for line in found.values())
    interval = (
        "A network with one seed has no standard deviation (sd). Its interval is that of the "
        f"difference of two shares of {TEST_IMAGES:,} test images, and other seeds may differ by "
        "more."
        if single
        else "Intervals are those of Student's t distribution over paired seeds."
    )
    return (
        "Except for the first two, all networks have 3 blocks. The training accuracy is that of "
        "the last epoch, measured with dropout and augmentation where the network has them. "
        f"{interval} The published study trained much longer: with all ingredients it reached 90 % "
        "after 250 epochs at a learning rate of 0.0003 and 25 epochs at 0.0001."
    )


def _method(found: dict[str, Line]) -> str:
    budgets = {f"{line.epochs} epochs on {line.images:,} images" for line in found.values()}
    rows = [row for line in found.values() for row in line.ours.values()]
    hours = sum(float(row["seconds"]) for row in rows) / 3600
    backends, hardware = backends_and_hardware(rows)
    rates = {f"{line.learning_rate:g}" for line in found.values()}
    return (
        f"{' or '.join(sorted(budgets))}. A tenth of the training set is the validation split. "
        f"Adam with a learning rate of {' or '.join(sorted(rates))}, after a warm-up, and a cosine "
        "to 0. Batches of 128 images. L2 penalty: 5e-4. Dropout: 0.2 after each block and after "
        "the hidden layer. Augmentation: rotation by up to 10 degrees, shifts by up to 3 pixels, "
        "flips. The moving averages of batch normalisation keep a share of 0.9 at each step. "
        "Products are computed in bfloat16, weights are kept in float32. The test set is read "
        f"once, with the weights of the last epoch.\n\n{len(rows)} trainings ran side by side. "
        f"Their times, with pauses, add up to {hours:.1f} hours. Hardware: {hardware}. Backends: "
        f"{backends}. Each training is a row of [vgg.csv](results/vgg.csv), and each epoch a row "
        f"of [vgg-curves.csv](results/vgg-curves.csv). `{_command(found)}` trains what is missing. "
        "`python -m models report vgg` makes this page."
    )


def _command(found: dict[str, Line]) -> str:
    """Return the command that trains all of this, with options where it exceeds INGREDIENTS."""
    (group,) = INGREDIENTS
    options: dict[str, int] = {}
    for name, line in found.items():
        usual = group.conditions[name]
        if line.epochs != usual.epochs:
            options["--epochs"] = line.epochs
        if line.images != usual.images:
            options["--images"] = line.images
    if (seeds := max(line.seeds for line in found.values())) > group.seeds:
        options["--seeds"] = seeds
    return " ".join([COMMAND, *(f"{option} {value}" for option, value in options.items())])


def _verdict(difference: Difference, line: Line) -> str:
    if line.seeds == 1:  # no verdict, because the interval says nothing about other seeds
        return f"{points(difference)} points, one seed"
    return f"{VERDICTS[difference.sign]}, {points(difference)} points"


_QUESTION = """# How much does each ingredient of the VGG contribute?

The network is a VGG on CIFAR-10. It has one to three blocks, each of two 3x3 convolutions and a
pool, with 32, 64 and 128 maps, then two dense layers. The study asks how accuracy changes with the
number of blocks. It also asks what batch normalisation, an L2 penalty, dropout and augmentation
contribute to three blocks: each one alone, and all of them together."""
