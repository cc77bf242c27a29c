"""Train every model of recipes.toml that is missing or whose recipe has changed, in its order."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.cards import Card, find_models
from models.training.recipes import Recipe, recipe_for, recipe_from, recipe_names, trained_rules
from models.training.runs import Run, find_runs, open_run, start_run


@dataclass(frozen=True)
class Planned:
    """One model of recipes.toml, and where it stands."""

    dataset: str
    architecture: str
    rule: str
    recipe: Recipe
    card: Card | None  # of a finished training by this very recipe
    folder: Path | None  # where that card lies, or the unfinished run to go on with

    @property
    def name(self) -> str:
        """`<dataset>-<architecture>-<rule>`, and its preset where it has one."""
        preset = f" ({self.recipe.preset})" if self.recipe.preset else ""
        return f"{self.dataset}-{self.architecture}-{self.rule}{preset}"


def plan(shelf: Path, runs: Path) -> Iterator[Planned]:
    """Every model of recipes.toml in its order, as the shelf and the runs have it by now.

    Each preset of a network is a model of its own. A model is there where one was trained by the
    recipe that the file holds today, seed and the rule's constants included, in a network of as
    many parameters; another one of the same name is out of date.
    """
    finished = [*find_models(shelf), *find_models(runs)]
    unfinished = [open_run(folder) for folder in find_runs(runs)]
    for dataset, architecture, preset in recipe_names():
        for rule in trained_rules(dataset, architecture, preset):
            recipe = recipe_for(dataset, architecture, rule, {"preset": preset})
            name = (dataset, architecture, rule)
            for folder, card in finished:
                trained = (card.dataset, card.architecture, card.rule)
                if (
                    trained == name
                    and recipe_from(card.training.recipe) == recipe
                    and card.parameters == _parameters(*name, recipe)
                ):
                    yield Planned(*name, recipe, card, folder)
                    break
            else:
                started = [
                    run.folder
                    for run in unfinished
                    if (run.dataset, run.architecture, run.rule) == name and run.recipe == recipe
                ]
                yield Planned(*name, recipe, None, started[0] if started else None)


def _parameters(dataset: str, architecture: str, rule: str, recipe: Recipe) -> int:
    """Of the network as it is built today: an architecture may have changed under its name."""
    from models.training.build import build_network

    run = Run(Path(), dataset, architecture, rule, recipe, "")
    return int(build_network(run).count_params())


def train_planned(planned: Planned, runs: Path) -> Card:
    """Train a planned model from its start, or go on with its unfinished run.

    Raises TeacherError, before anything is begun, where the recipe's teachers are not there.
    """
    from models.training.distillation import teachers_of
    from models.training.train import train

    teachers_of(planned.recipe, planned.dataset)  # without them there is nothing to start
    if planned.folder is not None:
        run = open_run(planned.folder)
    else:
        command = (
            f"python -m models train {planned.dataset} {planned.architecture} --rule {planned.rule}"
        )
        if planned.recipe.preset:
            command += f" --preset {planned.recipe.preset}"
        run = start_run(
            *(runs, planned.dataset, planned.architecture, planned.rule, planned.recipe, command)
        )
    return train(run)
