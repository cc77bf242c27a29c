"""docs/vgg.md: what each ingredient of the VGG is worth, from docs/results alone."""

import statistics
from pathlib import Path

from models.publishing.markdown import table
from studies.statistics import Difference, paired_difference
from studies.figures import draw_ingredients
from studies.groups import INGREDIENTS, VARIANTS
from studies.results import Tables, read_curves, read_done
from studies.summary import (
    UNMEASURED,
    VERDICTS,
    Line,
    backends_and_machines,
    lines,
    mean_and_deviation,
    percent,
    points,
)

COMMAND = "python -m models compare vgg"
TEST_IMAGES = 10_000
BASE = "3-blocks"


def page(results: Path, images: Path) -> str:
    """The page, with its picture drawn into the folder `images`, which lies beside it."""
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


def outcome(results: Path) -> str:
    """One line for the README."""
    found = {line.condition: line for line in lines(INGREDIENTS, read_done(Tables(results, "vgg")))}
    if BASE not in found or "all" not in found:
        return UNMEASURED.lower().rstrip(".")
    gains = _gains(found)
    alone = [name for name in _ALONE if name in gains]
    if not alone:
        return UNMEASURED.lower().rstrip(".")
    best = max(alone, key=lambda name: gains[name].mean)
    epochs = found[BASE].epochs
    return (
        f"after {epochs} epochs, {percent(found[BASE])} % for plain blocks, "
        f"{percent(found['all'])} % for all ingredients; the most by one alone is {best}'s "
        f"{points(gains[best])} points{', one seed' if found[best].seeds == 1 else ''}"
    )


_ALONE = ("batch-norm", "l2", "dropout", "augmentation")


def gain(ours: Line, theirs: Line) -> Difference:
    """The difference of the test accuracies and its 95 % interval.

    Paired over the seeds that both have, where those are two or more. With a single one the
    interval is that of two shares of TEST_IMAGES images, and says nothing of other seeds.
    """
    by_seed = [
        {trial.seed: float(row["test"]) for trial, row in line.ours.items()}
        for line in (ours, theirs)
    ]
    if len(both := sorted(by_seed[0].keys() & by_seed[1].keys())) > 1:
        return paired_difference(*([found[seed] for seed in both] for found in by_seed))
    our, their = ours.values("test")[0], theirs.values("test")[0]
    variance = (our * (1 - our) + their * (1 - their)) / TEST_IMAGES
    half = 1.959964 * variance**0.5
    return Difference(our - their, our - their - half, our - their + half)


def _gains(found: dict[str, Line]) -> dict[str, Difference]:
    """What each variant has more than 3 plain blocks of the same budget."""
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
    said = [f"- Plain networks reach {blocks}."]
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
    return table((*header, "difference from 3 plain blocks, 95 %", "published, %"), body)


def _reading(found: dict[str, Line]) -> str:
    single = any(line.seeds == 1 for line in found.values())
    interval = (
        "a network of one seed has no sd, and its interval is that of two shares of "
        f"{TEST_IMAGES:,} test images: other seeds may differ by more"
        if single
        else "intervals are over paired seeds, by Student's t"
    )
    return (
        "All but the first three have 3 blocks. The training accuracy is that of the last epoch, "
        f"under dropout and augmentation where there are any; {interval}. The published study "
        "trained far longer: all of it ends at 90 % after 250 epochs at a learning rate of 0.0003 "
        "and 25 at 0.0001."
    )


def _method(found: dict[str, Line]) -> str:
    budgets = {f"{line.epochs} epochs on {line.images:,} images" for line in found.values()}
    rows = [row for line in found.values() for row in line.ours.values()]
    hours = sum(float(row["seconds"]) for row in rows) / 3600
    backends, machines = backends_and_machines(rows)
    rates = {f"{line.learning_rate:g}" for line in found.values()}
    return (
        f"{' or '.join(sorted(budgets))} (a tenth of the training set is the validation split), "
        f"Adam at {' or '.join(sorted(rates))} with a warm-up and a cosine to 0, batches of 128. "
        "L2 5e-4; dropout 0.2 after each block and the hidden layer; augmentation: rotation by up "
        "to 10 degrees, shifts by up to 3 pixels, flips; batch normalisation's averages keep 0.9 "
        "of themselves at each step; products in bfloat16, weights in float32. The test set is "
        f"read once, with the weights of the last epoch. {len(rows)} trainings, side by side, "
        f"whose times with their pauses add up to {hours:.1f} hours, on {machines}; {backends}. "
        "Each is a row of [vgg.csv](results/vgg.csv), each of its epochs one of "
        f"[vgg-curves.csv](results/vgg-curves.csv). `{_command(found)}` trains "
        "what they lack; `python -m models report vgg` makes this page."
    )


def _command(found: dict[str, Line]) -> str:
    """The command that trains all of this, with what it asks for beyond INGREDIENTS."""
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
    if line.seeds == 1:  # no verdict: its interval knows nothing of other seeds
        return f"{points(difference)} points, one seed"
    return f"{VERDICTS[difference.sign]}, {points(difference)} points"


_QUESTION = """# What is each ingredient of the VGG worth?

On CIFAR-10, a VGG of one to three blocks (each of two 3x3 convolutions and a pool; 32, 64 and
128 maps; two dense layers): what do more blocks bring, what do batch normalisation, an L2
penalty, dropout and augmentation bring, each alone on three blocks, and what all of them
together?"""
