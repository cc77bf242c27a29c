"""Train every model of recipes.toml that does not exist or whose recipe has changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.cards import CARD, Card, find_models, read_card
from models.training.recipes import Recipe, recipe_for, recipe_from, recipe_names, trained_rules
from models.training.runs import Run, find_runs, open_run, start_run


@dataclass(frozen=True)
class Planned:
    """One model of recipes.toml, and whether it exists."""

    dataset: str
    architecture: str
    rule: str
    recipe: Recipe
    card: Card | None  # of a finished training by this recipe
    folder: Path | None  # of that card, or of an unfinished run to continue

    @property
    def name(self) -> str:
        """Return `<dataset>-<architecture>-<rule>`, and the preset if there is one."""
        preset = f" ({self.recipe.preset})" if self.recipe.preset else ""
        return f"{self.dataset}-{self.architecture}-{self.rule}{preset}"


def plan(repository: Path, runs: Path) -> Iterator[Planned]:
    """Yield every model of recipes.toml in the order of the file, with its card if it exists.

    Each preset of a network is a model of its own. A model exists if `repository` or `runs` holds
    one that was trained by the current recipe (including the seed and the constants of the rule)
    and has as many parameters as the current architecture. Otherwise it is out of date.
    """
    finished = [*find_models(repository), *find_models(runs)]
    unfinished = [open_run(folder) for folder in find_runs(runs)]
    for dataset, architecture, preset in recipe_names():
        for rule in trained_rules(dataset, architecture, preset):
            recipe = recipe_for(dataset, architecture, rule, {"preset": preset})
            name = (dataset, architecture, rule)
            for folder, card in finished:
                trained = (card.dataset, card.architecture, card.rule)
                if (
                    trained == name
                    and card.training is not None
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
    """Return the number of parameters of the network as the current code builds it."""
    from models.training.build import build_network

    run = Run(Path(), dataset, architecture, rule, recipe, "")
    return int(build_network(run).count_params())


def open_planned(planned: Planned, runs: Path) -> Run:
    """Return the unfinished run of a planned model, or a new one below `runs`.

    Raises TeacherError if a teacher of the recipe is missing, before a run folder is made.
    """
    from models.training.distillation import teachers_of

    teachers_of(planned.recipe, planned.dataset)
    if planned.folder is not None:
        return open_run(planned.folder)
    command = (
        f"python -m models train {planned.dataset} {planned.architecture} --rule {planned.rule}"
    )
    if planned.recipe.preset:
        command += f" --preset {planned.recipe.preset}"
    return start_run(
        *(runs, planned.dataset, planned.architecture, planned.rule, planned.recipe, command)
    )


def train_planned(planned: Planned, runs: Path) -> Card:
    """Train a planned model from the start, or continue its unfinished run, and return its card.

    Raises TeacherError as `open_planned` does.
    """
    from models.training.train import train

    return train(open_planned(planned, runs))


def train_folder(folder: Path) -> Card:
    """Train the run in `folder` from its last finished epoch, and return its card.

    A run that is finished stays as it is: a task whose answer was lost is started again.
    """
    from models.training.train import train

    return read_card(folder) if (folder / CARD).exists() else train(open_run(folder))
