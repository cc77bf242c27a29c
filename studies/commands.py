"""`python -m models compare metaplasticity`, `compare vgg` and `report`."""

from collections.abc import Iterable
from pathlib import Path

from models.errors import MetaplasticError
from studies import brainprop_page, metaplasticity_page, training_page, vgg_page
from studies.groups import FORGETTING, INGREDIENTS, LEARNING
from studies.plan import Group, Limits
from studies.results import Tables, read_done
from studies.summary import lines, mean_and_deviation, points

# Study -> the tables that it fills, each with its groups.
STUDIES: dict[str, dict[str, tuple[Group, ...]]] = {
    "metaplasticity": {"forgetting": FORGETTING, "metaplasticity": LEARNING},
    "vgg": {"vgg": INGREDIENTS},
}
_STUDY_PAGES = {"metaplasticity": metaplasticity_page, "vgg": vgg_page}
_PAGES_OF_CARDS = {"brainprop": brainprop_page, "training": training_page}
PAGES = (*_STUDY_PAGES, *_PAGES_OF_CARDS)
_OUTCOME = "<!-- {study}: python -m models report {study} -->"  # its line in the README follows

Rows = list[tuple[str, ...]]


def run_study(study: str, limits: Limits, results: Path, folder: Path) -> Rows:
    """Train what `results` lacks of a study, in `folder`; then its closing table, header first.

    Raises MetaplasticError for a part that the study does not have.
    """
    # Here, since they bring Keras with them, and a report needs none.
    from studies.forgetting import learn_in_turn
    from studies.training import learn, learn_with_ingredients
    from studies.work import work_through

    carry_out = {
        "metaplasticity": learn,
        "forgetting": learn_in_turn,
        "vgg": learn_with_ingredients,
    }
    _check_parts(limits.parts, STUDIES[study].values())
    wanted = {name: limits.apply(groups) for name, groups in STUDIES[study].items()}
    for name, groups in wanted.items():
        work_through(groups, carry_out[name], Tables(results, name), folder / name)
    return closing_table(wanted, results)


def closing_table(wanted: dict[str, list[Group]], results: Path) -> Rows:
    """What is known of each group, condition and rule."""
    rows: Rows = [("network", "condition", "rule", "seeds", "test, % (sd)", "difference, 95 %")]
    for name, groups in wanted.items():
        for line in lines(groups, read_done(Tables(results, name))):
            found = line.difference("test")
            group = line.group
            rows.append(
                (
                    f"{group.dataset} {group.architecture} {group.optimizer}",
                    *(line.condition, f"{line.rule} {line.strength:g}", str(line.seeds)),
                    mean_and_deviation(line.values("test")),
                    points(found) if found else "",
                )
            )
    return rows


def write_report(page: str, docs: Path, shelf: Path) -> Path:
    """Renew one of PAGES in `docs`, and a study's line in the README beside `docs`.

    A study's page is made of `docs`/results; of the others only the table is, of the models on the
    shelf and of `docs`/runs.
    """
    path = docs / f"{page}.md"
    if page in _PAGES_OF_CARDS:
        text = _PAGES_OF_CARDS[page].page(path.read_text(encoding="utf-8"), docs, shelf)
    else:
        text = _STUDY_PAGES[page].page(docs / "results", docs / "images")
        readme = docs.parent / "README.md"
        before = readme.read_text(encoding="utf-8")
        readme.write_text(with_outcome(before, page, docs / "results"), encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def with_outcome(readme: str, study: str, results: Path) -> str:
    """The README with the study's line renewed. Raises MetaplasticError where it has none."""
    mark = _OUTCOME.format(study=study)
    if mark not in readme:
        raise MetaplasticError(f"README.md has no line {mark}")
    before, after = readme.split(mark + "\n", 1)
    _, rest = after.split("\n", 1)
    title = {"metaplasticity": "What metaplasticity does", "vgg": "What the VGG is made of"}[study]
    outcome = _STUDY_PAGES[study].outcome(results)
    return f"{before}{mark}\n[{title}](docs/{study}.md): {outcome}.\n{rest}"


def _check_parts(parts: Iterable[str], tables: Iterable[tuple[Group, ...]]) -> None:
    known = [name for groups in tables for group in groups for name in group.conditions]
    if unknown := [part for part in parts if part not in known]:
        raise MetaplasticError(
            f"no part is called {', '.join(unknown)}; there are: {', '.join(dict.fromkeys(known))}"
        )
