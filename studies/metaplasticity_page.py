"""docs/metaplasticity.md: the effect of metaplasticity, made from docs/results alone."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from models.publishing.markdown import table
from studies import metaplasticity_prose
from studies.figures import Curves, draw_differences, draw_forgetting, draw_learning
from studies.groups import FORGETTING, LEARNING, STRENGTHS, TARGETS
from studies.plan import BASELINE, Done, chosen
from studies.results import Row, Tables, read_curves, read_done, read_rows
from studies.statistics import paired_difference
from studies.step_cost import step_cost
from studies.summary import (
    UNMEASURED,
    VERDICTS,
    Line,
    backends_and_hardware,
    epochs_to,
    groups_of,
    lines,
    mean_and_deviation,
    percent,
    points,
    rule_name,
    title,
)

COMMAND = "python -m models compare metaplasticity"


def page(results: Path, images: Path) -> str:
    """Return the text of the page, and draw its figures into `images`, a folder beside the page."""
    learning, forgetting = (Tables(results, name) for name in ("metaplasticity", "forgetting"))
    learned = lines(LEARNING, read_done(learning))
    kept = lines(FORGETTING, read_done(forgetting))
    curves = {**read_curves(learning), **read_curves(forgetting)}
    sections = [
        metaplasticity_prose.QUESTION,
        "## The answer",
        *_answers(learned, kept, results),
        "## Effect on accuracy",
        *_where(learned, images),
        "## Speed of learning",
        *_speed(learned, curves, images),
        *_conditions(learned),
        "## Forgetting of earlier tasks",
        metaplasticity_prose.TASKS,
        *_kept(kept, curves, images),
        "## Cost of a step",
        *step_cost(results),
        "## How it was measured",
        metaplasticity_prose.METHOD,
        *_constants(read_done(learning), read_done(forgetting)),
        *_provenance([*read_done(learning).values(), *read_done(forgetting).values()]),
    ]
    return "\n\n".join(sections) + "\n"


def summary(results: Path) -> str:
    """Return one line for README.md."""
    learned = lines(LEARNING, read_done(Tables(results, "metaplasticity")))
    kept = lines(FORGETTING, read_done(Tables(results, "forgetting")))
    compared = [line for line in learned if line.difference("test")]
    ten = {line.rule: line for line in kept if line.condition == "ten-tasks"}
    said = []
    if compared:
        said.append(
            f"test accuracy: {_tally(compared)} ({_by_chance(compared)} expected by chance)"
        )
    if len(ten) > 1:
        shares = (f"{rule_name(rule)} {percent(line)} %" for rule, line in ten.items())
        said.append(f"mean accuracy after ten permuted MNIST tasks: {', '.join(shares)}")
    return "; ".join(said) if said else UNMEASURED.lower().rstrip(".")


def _answers(learned: Sequence[Line], kept: Sequence[Line], results: Path) -> list[str]:
    said = []
    compared = [line for line in learned if line.difference("test")]
    for rule in STRENGTHS:
        of_rule = [line for line in compared if line.rule == rule]
        if of_rule:
            said.append(f"- `{rule}`, accuracy on one task: {_tally(of_rule)}.")
    for group in groups_of(kept):
        baseline, *others = (line for line in kept if line.group is group)
        if not others:
            continue
        beside = "; ".join(
            f"{rule_name(line.rule)} {percent(line)} %{_gain(line)}" for line in others
        )
        said.append(
            f"- {title(group)}: after the last task, the mean accuracy over all tasks is "
            f"{percent(baseline)} % with the baseline; {beside}."
        )
    rows = read_rows(results / "optimizer-step.csv")
    if rows:
        least, most = (100 * (f(float(row["ratio"]) for row in rows) - 1) for f in (min, max))
        networks = " and ".join(dict.fromkeys(row["architecture"] for row in rows))
        said.append(
            f"- The duration of a step of {networks} changes by {least:+.1f} to {most:+.1f} %, "
            "depending on rule, optimizer and backend (medians)."
        )
    if not compared and not kept:
        return [f"{UNMEASURED} `{COMMAND}`"]
    there = groups_of([*learned, *kept])
    if missing := [title(group) for group in (*LEARNING, *FORGETTING) if group not in there]:
        said.append(f"- {UNMEASURED.rstrip('.')}: {'; '.join(missing)}.")
    verdicts = [*compared, *(line for line in kept if line.difference("test"))]
    return [
        "\n".join(said),
        f"Each verdict comes from one 95 % interval. Even if no rule had an effect, "
        f"{_by_chance(verdicts)} of these {len(verdicts)} intervals would not contain 0.",
    ]


def _where(learned: Sequence[Line], images: Path) -> list[str]:
    compared = [line for line in learned if line.difference("test")]
    if not compared:
        return [UNMEASURED]
    draw_differences(compared, images / "metaplasticity-differences.svg")
    places = dict.fromkeys((id(line.group), line.condition) for line in compared)
    body = []
    for place in places:
        here = {line.rule: line for line in compared if (id(line.group), line.condition) == place}
        one = next(iter(here.values()))
        cells = [_verdict(here[rule]) if rule in here else "" for rule in STRENGTHS]
        body.append([title(one.group), one.condition, str(one.seeds), *cells])
    return [
        "The difference between the test accuracy with the rule and that of the baseline, in "
        "percentage points: the mean over paired seeds, with the 95 % interval of Student's t "
        "distribution. Where the interval contains 0, no difference was found.",
        table(("network", "condition", "seeds", *STRENGTHS), body),
        "![Each difference with its interval](images/metaplasticity-differences.svg)",
    ]


def _speed(learned: Sequence[Line], curves: Curves, images: Path) -> list[str]:
    clean = [line for line in learned if line.condition == "clean"]
    if not clean:
        return [UNMEASURED]
    draw_learning(clean, curves, images / "metaplasticity-learning.svg")
    body = []
    for line in clean:
        early = (f"validation_{epochs}" for epochs in (1, 3))
        body.append(
            [
                *(title(line.group), rule_name(line.rule)),
                *(_beside(line, figure) if line.has(figure) else "" for figure in early),
                *(_beside(line, "validation"), _epochs_to(line, curves)),
                *(mean_and_deviation(line.values("test")), _points(line, "test")),
            ]
        )
    budgets = sorted({(line.images, line.epochs) for line in clean}, reverse=True)
    said = " and ".join(f"{epochs} epochs on {images:,} images" for images, epochs in budgets)
    header = ("network", "rule", "after 1 epoch", "after 3", "after all", "epochs to a target")
    return [
        f"{said}. The table shows accuracy in %, as mean (standard deviation) over the seeds. It "
        "also shows the paired difference from the baseline in percentage points, with its 95 % "
        "interval. The test set is read once, at the end. All other columns are about the "
        "validation split.",
        table((*header, "test", "difference, test"), body),
        "Targets: "
        + "; ".join(f"{_network(key)} {100 * t:.0f} %" for key, t in TARGETS.items())
        + ".",
        "![Learning curves: mean and one standard deviation](images/metaplasticity-learning.svg)",
    ]


def _conditions(learned: Sequence[Line]) -> list[str]:
    sections = []
    for condition, heading in (
        ("wrong-labels", "With 20 % wrong labels"),
        ("few-samples", "With 1 % of the training set"),
    ):
        here = [line for line in learned if line.condition == condition]
        sections.append(f"## {heading}")
        if not here:
            sections.append(UNMEASURED)
            continue
        body = [
            [
                *(title(line.group), rule_name(line.rule), str(line.seeds)),
                *(mean_and_deviation(line.values("test")), _points(line, "test")),
            ]
            for line in here
        ]
        budgets = sorted({(line.images, line.epochs) for line in here}, reverse=True)
        said = " or ".join(f"{epochs} epochs on {images:,} images" for images, epochs in budgets)
        header = ("network", "rule", "seeds", "test, % (sd)", "difference and 95 % interval")
        sections += [
            f"{said}. The constants are those that were chosen on clean images.",
            table(header, body),
        ]
    return sections


_KEPT = {
    "learned": "learned",
    "forgotten": "forgotten",
    "test_first": "first task",
    "test_last": "last task",
    "test": "all tasks",
}


def _kept(kept: Sequence[Line], curves: Curves, images: Path) -> list[str]:
    if not kept:
        return [UNMEASURED]
    draw_forgetting(kept, curves, images / "metaplasticity-forgetting.svg")
    body = [
        [
            *(title(line.group), rule_name(line.rule), f"{line.strength:g}", str(line.seeds)),
            *(_beside(line, figure) for figure in _KEPT),
        ]
        for line in kept
    ]
    budgets = [
        f"{title(group)}: {line.epochs} epochs on {line.images:,} images for each task"
        for group in groups_of(kept)
        for line in [next(line for line in kept if line.group is group)]
    ]
    return [
        "The table shows accuracy in %, as mean (standard deviation) over the seeds. It also shows "
        "the paired difference from the baseline in percentage points, with its 95 % interval. "
        "`learned` is the validation accuracy of each task directly after it was learned, averaged "
        "over the tasks. `forgotten` is how much lower the same average is after the last task. "
        "The other columns are test accuracies after the last task.",
        table(("tasks and network", "rule", "strength", "seeds", *_KEPT.values()), body),
        "; ".join(budgets) + ".",
        "![Mean accuracy over the tasks so far](images/metaplasticity-forgetting.svg)",
    ]


def _constants(*studies: Done) -> list[str]:
    body = []
    for groups, done in zip((LEARNING, FORGETTING), studies, strict=True):
        for group in groups:
            constants = chosen(group, done)
            if constants:
                tried = "; ".join(
                    f"{rule_name(rule)} {_list(tries)}" for rule, tries in group.strengths.items()
                )
                strengths = "; ".join(
                    f"{rule_name(rule)} {_choice(strength, group.strengths[rule])}"
                    for rule, (_, strength) in constants.items()
                    if rule != BASELINE
                )
                rate = f"{_choice(constants[BASELINE][0], group.rates)} of {_list(group.rates)}"
                tries = group.tuning or group.conditions[group.tuned_on]
                budget = f"{tries.epochs} epochs on {tries.images:,} images"
                body.append([title(group), budget, rate, strengths, tried])
    if not body:
        return []
    return [
        "A star marks a constant at the edge of the tried values. A better value may lie beyond "
        "it. Below the smallest strength, a rule approaches the baseline.",
        table(("network", "tries", "learning rate", "chosen strengths", "tried strengths"), body),
    ]


def _provenance(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    hours = sum(float(row["seconds"]) for row in rows) / 3600
    backends, hardware = backends_and_hardware(rows)
    return [
        f"{len(rows)} trainings ran side by side. Their times add up to {hours:.1f} hours. "
        f"Hardware: {hardware}. Backends: {backends}. Each training is a row of "
        "[metaplasticity.csv](results/metaplasticity.csv) or "
        "[forgetting.csv](results/forgetting.csv). Its epochs are rows of the files that end in "
        "`-curves.csv`."
    ]


def _tally(compared: Sequence[Line]) -> str:
    signs = [line.difference("test").sign for line in compared]  # type: ignore[union-attr]
    helps, hurts, none = (signs.count(sign) for sign in (1, -1, 0))
    return (
        f"of {len(signs)} comparisons it helps in {helps}, hurts in {hurts}, and in {none} no "
        "difference was found"
    )


def _by_chance(verdicts: Sequence[Line]) -> str:
    """Return the number of 95 % intervals that would not contain 0 if no rule had an effect."""
    return f"about {len(verdicts) / 20:.2g}"


def _verdict(line: Line) -> str:
    found = line.difference("test")
    assert found is not None
    text = points(found)
    return text if found.sign == 0 else f"**{VERDICTS[found.sign]}** {text}"


def _gain(line: Line) -> str:
    found = line.difference("test")
    return f" ({VERDICTS[found.sign]}, {points(found)})" if found else ""


def _beside(line: Line, figure: str) -> str:
    return " ".join([mean_and_deviation(line.values(figure)), _points(line, figure)]).strip()


def _points(line: Line, figure: str) -> str:
    found = line.difference(figure)
    return points(found) if found else ""


def _epochs_to(line: Line, curves: Curves) -> str:
    target = TARGETS[line.group.dataset, line.group.architecture]
    ours, theirs = (
        [epochs_to(target, curves[trial.name]) for trial in trials]
        for trials in (line.ours, line.theirs)
    )
    reached = [epochs for epochs in ours if epochs is not None]
    if len(reached) < len(ours):
        return f"reached by {len(reached)} of {len(ours)}"
    if max(reached) == 1:
        return "1 or less"
    text = f"{statistics.mean(reached):.2f}"
    if len(reached) > 1:
        text += f" ({statistics.stdev(reached):.2f})"
    there = [epochs for epochs in theirs if epochs is not None]
    # A first epoch that reaches the target gives no exact number, so there is no difference.
    if line.rule == BASELINE or len(reached) < 2 or len(there) < len(theirs) or min(there) == 1:
        return text
    found = paired_difference(reached, there)
    return f"{text} {found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _network(key: tuple[str, str]) -> str:
    return f"{key[1]} on {key[0]}"


def _choice(constant: float, tries: Sequence[float]) -> str:
    return f"{constant:g}" + ("*" if constant in (min(tries), max(tries)) else "")


def _list(tries: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in tries)
