"""The shelf as the service sees it: its endpoints, their models, and each model's session."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from app.catalogue.network import Network
from app.catalogue.session import ModelBytes, Session
from app.errors import RequestError
from app.settings import StartError
from models.cards import INT8_MODEL, Calibration, Card

COMPARE = "compare"  # /api/<dataset>/compare asks every architecture, so that none may be called so
ALL_RULES = "all"  # and ?rule=all every rule of them


class ShelfError(StartError):
    """Models that cannot be served: names the path, and what to do.

    `passing`: the reason may be gone later, as where a file is being written. `endpoint` is the
    model's, where its card can be read.
    """

    def __init__(self, message: str, *, passing: bool = False, endpoint: str = "") -> None:
        super().__init__(message)
        self.passing = passing
        self.endpoint = endpoint


@dataclass(frozen=True, eq=False)
class Model:
    """A published model: its card, the folder that it lies in, and the file of it that runs."""

    card: Card
    folder: Path
    runs: str  # the file's name: `model.onnx` or `model.int8.onnx`
    content: ModelBytes  # as it was read

    @property
    def vouched_for(self) -> bool:
        """Whether what runs is known to be the file that was published: it ran then."""
        return self.runs in self.card.files

    @property
    def calibration(self) -> Calibration:
        """Of the file that runs."""
        int8 = self.card.int8
        return int8.calibration if int8 and self.runs == INT8_MODEL else self.card.calibration

    @property
    def accuracy(self) -> tuple[float, tuple[float, float]] | None:
        """The test accuracy of the file that runs and its 95 % interval; None if not measured."""
        int8, test = self.card.int8, self.card.test
        if int8 and self.runs == INT8_MODEL:
            if int8.test_accuracy is None or int8.test_interval is None:
                return None
            return int8.test_accuracy, int8.test_interval
        return (test.accuracy, test.interval) if test else None

    @property
    def network(self) -> Network:
        """Opened when first asked for: in a worker, not in its parent, and only where it is used.

        Raises RequestError 503 where its file is not a model that fits its card, or cannot be
        run for the moment.
        """
        network = self._session.open()
        if network is None:
            message = f"{self.card.name} version {self.card.version} cannot be run here."
            raise RequestError(503, "model_unavailable", f"{message} The log says why.")
        return network

    @property
    def problem(self) -> str:
        """Why the model cannot be run now, "" where it can; found out by opening it."""
        self._session.open()
        return self._session.problem

    @property
    def known_problem(self) -> str:
        """The problem that has been found already, without opening the model to look for one."""
        return self._session.problem

    @property
    def tried(self) -> bool:
        """Whether its session has been asked for."""
        return self._session.tried

    @cached_property
    def _session(self) -> Session:
        target = self.card.input
        image = (target.height, target.width, target.channels)
        path = self.folder / self.runs
        return Session(self.content, image, len(self.card.labels), str(path))


@dataclass(frozen=True)
class Endpoint:
    """One data set's one architecture: the models that /api/<dataset>/<architecture> chooses from.

    `models` holds, for each rule, its versions, the newest first; the default rule comes first.
    `samples` are the endpoint's own images, name -> PNG bytes.
    """

    dataset: str
    architecture: str
    models: Mapping[str, Mapping[int, Model]]
    samples: Mapping[str, bytes]

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.architecture}"

    @property
    def path(self) -> str:
        return f"/api/{self.name}"

    @property
    def identifier(self) -> str:
        """Its name as a part of an operation's id in the specification."""
        return self.name.replace("/", "_").replace("-", "_")

    @property
    def default_rule(self) -> str:
        return next(iter(self.models))

    @property
    def classes(self) -> int:
        """The most that any of its models tells apart."""
        return max(len(model.card.labels) for model in self)

    def __iter__(self) -> Iterator[Model]:
        for versions in self.models.values():
            yield from versions.values()

    def find(self, rule: str | None = None, version: int | None = None) -> Model:
        """The model of `rule` (or the default rule) and `version` (or the newest).

        Raises RequestError 404 that lists what there is.
        """
        rule = self.default_rule if rule is None else rule
        versions = self.models.get(rule)
        if versions is None:
            known = ", ".join(self.models)
            message = f"{self.name} has no rule {rule[:40]!r}; it has: {known}."
            raise RequestError(404, "unknown_rule", message, rules=list(self.models))
        if version is None:
            return next(iter(versions.values()))
        if version not in versions:
            known = ", ".join(map(str, versions))
            message = f"{self.name} has no version {version} of {rule}; it has: {known}."
            raise RequestError(404, "unknown_version", message, versions=list(versions))
        return versions[version]


@dataclass(frozen=True)
class Catalogue:
    """All that is served: endpoints by name (`mnist/lenet`), and the one that /predict asks.

    Where that one is on the shelf and none of its models can be used, `default` is another, for
    the documentation's sake, and `default_left_out` says what is wrong.
    """

    root: Path
    endpoints: Mapping[str, Endpoint]
    default: Endpoint
    left_out: Mapping[str, str]  # folder below the root -> what is wrong with its model
    passing: tuple[Path, ...] = ()  # of these folders, those that may be found mended later
    default_left_out: str = ""

    def __iter__(self) -> Iterator[Model]:
        for endpoint in self.endpoints.values():
            yield from endpoint

    @property
    def datasets(self) -> dict[str, list[Endpoint]]:
        """The endpoints of each data set, by its name."""
        groups: dict[str, list[Endpoint]] = {}
        for endpoint in self.endpoints.values():
            groups.setdefault(endpoint.dataset, []).append(endpoint)
        return groups

    def open_first_sessions(self) -> None:
        """Open those sessions that should not wait for a request to their model.

        That is the default model's, and those of files that no checksum vouches for. Raises
        ShelfError where no model is left that can be run.
        """
        for model in self:
            if model is self.default.find() or not model.vouched_for:
                _ = model.problem
        if all(model.known_problem for model in self):
            raise ShelfError("\n".join(self.problems.values()))

    @property
    def default_problem(self) -> str:
        """Why the default model cannot answer now, "" where it can."""
        return self.default_left_out or self.default.find().problem

    @property
    def problems(self) -> dict[str, str]:
        """What cannot be served, as far as is known: folder below the root -> what is wrong."""
        found = {
            m.folder.relative_to(self.root).as_posix(): m.known_problem
            for m in self
            if m.known_problem
        }
        return {**self.left_out, **found}


def find_each(endpoints: Sequence[Endpoint], rule: str | None = None) -> list[Model]:
    """The default model of each of a data set's `endpoints`, or that of `rule` where there is one.

    For the rule `all` it is those of every rule, the newest of each. Raises RequestError 404 that
    lists what there is where none of them has the rule.
    """
    if rule is None:
        return [endpoint.find() for endpoint in endpoints]
    if rule == ALL_RULES:
        return [endpoint.find(name) for endpoint in endpoints for name in endpoint.models]
    models = [endpoint.find(rule) for endpoint in endpoints if rule in endpoint.models]
    if not models:
        rules = every_rule(endpoints)
        known = ", ".join(rules)
        message = f"{endpoints[0].dataset} has no rule {rule[:40]!r}; it has: {known}."
        raise RequestError(404, "unknown_rule", message, rules=rules)
    return models


def every_rule(endpoints: Sequence[Endpoint]) -> list[str]:
    """The rules that any of `endpoints` has."""
    return list(dict.fromkeys(rule for endpoint in endpoints for rule in endpoint.models))
