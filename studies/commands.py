"""The work of `python -m models compare` and `python -m models report`."""

import functools
from collections.abc import Iterable
from contextlib import closing, nullcontext
from pathlib import Path

from models.errors import MetaplasticError
from models.training.on_ray import Trainings
from studies import brainprop_page, learning_page, metaplasticity_page, training_page, vgg_page
from studies.groups import FORGETTING, INGREDIENTS, LEARNING
from studies.learning_groups import VOTES
from studies.plan import Group, Limits, plan
from studies.results import Tables, read_done
from studies.summary import lines, mean_and_deviation, points, rule_name

# Study -> the tables that it fills -> the groups of each table.
STUDIES: dict[str, dict[str, tuple[Group, ...]]] = {
    "metaplasticity": {"forgetting": FORGETTING, "metaplasticity": LEARNING},
    "vgg": {"vgg": INGREDIENTS},
    "learning": {"learning": VOTES},
}
_STUDY_PAGES = {
    "metaplasticity": metaplasticity_page,
    "vgg": vgg_page,
    "learning": learning_page,
}
_PAGES_OF_CARDS = {"brainprop": brainprop_page, "training": training_page}
PAGES = (*_STUDY_PAGES, *_PAGES_OF_CARDS)
# The study whose result is in README.md, and the line before that result.
_IN_README = "metaplasticity"
_MARK = f"<!-- {_IN_README}: python -m models report {_IN_README} -->"

Rows = list[tuple[str, ...]]


def run_study(
    study: str, limits: Limits, results: Path, folder: Path, on: str | None = None
) -> Rows:
    """Train the trials of a study that have no row in `results`, and return its closing table.

    `folder` holds the unfinished trials, and `on` is the address of a Ray cluster to train on. The
    header of the table comes first. Raises MetaplasticError for a part that the study does not
    have, and ClusterError.
    """
    # Imported here because they import Keras, which a report does not need.
    from studies.forgetting import learn_in_turn
    from studies.learning import learn_from_votes
    from studies.training import learn, learn_with_ingredients
    from studies.work import work_through, work_through_on

    carry_out = {
        "metaplasticity": learn,
        "forgetting": learn_in_turn,
        "vgg": learn_with_ingredients,
        "learning": learn_from_votes,
    }
    _check_parts(limits.parts, STUDIES[study].values())
    wanted = {name: limits.apply(groups) for name, groups in STUDIES[study].items()}
    used = {group.dataset for groups in wanted.values() for group in groups}
    with nullcontext() if on is None else closing(Trainings(on, used)) as trainings:
        for name, groups in wanted.items():
            what = (functools.partial(plan, groups), carry_out[name])
            where = (Tables(results, name), folder / name)
            if trainings:
                work_through_on(trainings, *what, *where)
            else:
                work_through(*what, *where)
    return closing_table(wanted, results)


def run_comparison(dataset: str, architecture: str, limits: Limits, folder: Path) -> Rows:
    """Compare the metaplastic rules on one network, and return a table, header first.

    `folder` holds the results and the unfinished trials. Raises MetaplasticError for a number of
    seeds or images that is not possible.
    """
    from studies.compare import compare_rules

    compared = compare_rules(
        *(dataset, architecture),
        seeds=5 if limits.seeds is None else limits.seeds,
        epochs=4 if limits.epochs is None else limits.epochs,
        images=limits.images,
        root=folder,
    )
    rows: Rows = [("variant", "seeds", "validation, % (sd)", "difference, 95 %")]
    for name, pairs in compared.items():
        found = pairs.difference("validation")
        values = mean_and_deviation(pairs.values("validation"))
        rows.append((name, str(pairs.seeds), values, points(found) if found else ""))
    return rows


def closing_table(wanted: dict[str, list[Group]], results: Path) -> Rows:
    """Return a table with a row for each group, condition and rule, header first."""
    rows: Rows = [("network", "condition", "rule", "seeds", "test, % (sd)", "difference, 95 %")]
    for name, groups in wanted.items():
        for line in lines(groups, read_done(Tables(results, name))):
            found = line.difference("test")
            group = line.group
            rows.append(
                (
                    f"{group.dataset} {group.architecture} {group.optimizer}",
                    *(line.condition, f"{rule_name(line.rule)} {line.strength:g}", str(line.seeds)),
                    mean_and_deviation(line.values("test")),
                    points(found) if found else "",
                )
            )
    return rows


def write_report(page: str, docs: Path, repository: Path) -> Path:
    """Write one of PAGES in `docs` again and return its path.

    The page of a study is made from `docs`/results. So is the line about metaplasticity in the
    README.md beside `docs`.
    On the other pages only a table is replaced. It is made from the cards in the model repository
    and in `docs`/runs.
    """
    path = docs / f"{page}.md"
    if page in _PAGES_OF_CARDS:
        text = _PAGES_OF_CARDS[page].page(path.read_text(encoding="utf-8"), docs, repository)
    else:
        text = _STUDY_PAGES[page].page(docs / "results", docs / "images")
    if page == _IN_README:
        readme = docs.parent / "README.md"
        before = readme.read_text(encoding="utf-8")
        readme.write_text(with_summary(before, docs / "results"), encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def with_summary(readme: str, results: Path) -> str:
    """Return the text of README.md with a new line about metaplasticity.

    Raises MetaplasticError if it has no such line.
    """
    if _MARK not in readme:
        raise MetaplasticError(f"README.md has no line {_MARK}")
    before, after = readme.split(_MARK + "\n", 1)
    _, rest = after.split("\n", 1)
    link = f"[What metaplasticity does](docs/{_IN_README}.md)"
    return f"{before}{_MARK}\n{link}: {metaplasticity_page.summary(results)}.\n{rest}"


def _check_parts(parts: Iterable[str], tables: Iterable[tuple[Group, ...]]) -> None:
    known = [name for groups in tables for group in groups for name in group.conditions]
    if unknown := [part for part in parts if part not in known]:
        raise MetaplasticError(
            f"no part is called {', '.join(unknown)}; there are: {', '.join(dict.fromkeys(known))}"
        )
