"""The served models: their endpoints, and each model's session."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from app.catalogue.network import Network
from app.catalogue.session import ModelBytes, Session
from app.errors import RequestError
from app.settings import StartError
from models.cards import INT8_MODEL, Calibration, Card

# Reserved names: /api/<dataset>/compare asks every architecture, and ?rule=all asks every rule.
COMPARE = "compare"
ALL_RULES = "all"

# Inode, time of the last change (ns) and size of a file; None if there is none.
FileState = tuple[int, int, int] | None


class RepositoryError(StartError):
    """A model or a model repository that cannot be served: its path, the problem, and what to do.

    `passing` says that the problem may disappear, as with a file that is just being written.
    `endpoint` is the model's endpoint if its card can be read.
    """

    def __init__(self, message: str, *, passing: bool = False, endpoint: str = "") -> None:
        super().__init__(message)
        self.passing = passing
        self.endpoint = endpoint


@dataclass(frozen=True, eq=False)
class Model:
    """A published model: its card, its folder, and the bytes of the file of it that runs."""

    card: Card
    folder: Path
    runs: str  # the file's name: `model.onnx` or `model.int8.onnx`
    content: ModelBytes  # as it was read

    @property
    def has_checksum(self) -> bool:
        """Return whether the card has a checksum of the file that runs.

        Such a file was run when it was published.
        """
        return self.runs in self.card.files

    @property
    def calibration(self) -> Calibration:
        """Return the calibration of the file that runs."""
        int8 = self.card.int8
        return int8.calibration if int8 and self.runs == INT8_MODEL else self.card.calibration

    @property
    def accuracy(self) -> tuple[float, tuple[float, float]] | None:
        """Return the test accuracy of the file that runs and its 95 % interval, if measured."""
        int8, test = self.card.int8, self.card.test
        if int8 and self.runs == INT8_MODEL:
            if int8.test_accuracy is None or int8.test_interval is None:
                return None
            return int8.test_accuracy, int8.test_interval
        return (test.accuracy, test.interval) if test else None

    @property
    def network(self) -> Network:
        """Return the network of this process; its session is opened by the first call.

        Raises RequestError 503 if its file cannot be run, or does not fit its card.
        """
        network = self._session.open()
        if network is None:
            message = f"{self.card.name} version {self.card.version} cannot be run here."
            raise RequestError(503, "model_unavailable", f"{message} The log says why.")
        return network

    @property
    def problem(self) -> str:
        """Return why the model cannot be run now, or "". Opens its session to find out."""
        self._session.open()
        return self._session.problem

    @property
    def known_problem(self) -> str:
        """Return the known reason why the model cannot be run, or "". Does not open its session."""
        return self._session.problem

    @property
    def tried(self) -> bool:
        """Return whether opening the session was tried."""
        return self._session.tried

    @cached_property
    def _session(self) -> Session:
        target = self.card.input
        image = (target.height, target.width, target.channels)
        path = self.folder / self.runs
        return Session(self.content, image, len(self.card.labels), str(path))


@dataclass(frozen=True)
class Endpoint:
    """One architecture of a data set: the models of /api/<dataset>/<architecture>.

    `models` has the versions of each rule: the champion, then the others, the newest first. The
    default rule is the first. `samples` are the endpoint's own images: name -> PNG bytes.
    `challengers` are the candidates for the champion's place, by rule.
    """

    dataset: str
    architecture: str
    models: Mapping[str, Mapping[int, Model]]
    samples: Mapping[str, bytes]
    challengers: Mapping[str, Model] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.architecture}"

    @property
    def path(self) -> str:
        return f"/api/{self.name}"

    @property
    def identifier(self) -> str:
        """Return the name as a part of an operation's id in Swagger."""
        return self.name.replace("/", "_").replace("-", "_")

    @property
    def default_rule(self) -> str:
        return next(iter(self.models))

    @property
    def classes(self) -> int:
        """Return the largest number of classes of a model."""
        return max(len(model.card.labels) for model in self)

    def __iter__(self) -> Iterator[Model]:
        for versions in self.models.values():
            yield from versions.values()

    def find(self, rule: str | None = None, version: int | None = None) -> Model:
        """Return the model of `rule` and `version`, by default the champion of the default rule.

        Raises RequestError 404, which lists the existing ones.
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
    """All served models: endpoints by name (`mnist/lenet`), and the default endpoint of /predict.

    If the default endpoint is in the model repository and none of its models can be used, `default`
    is another one, which the documentation needs, and `default_left_out` is the problem.
    """

    root: Path
    endpoints: Mapping[str, Endpoint]
    default: Endpoint
    left_out: Mapping[str, str]  # folder below the root -> the problem of its model
    passing: tuple[Path, ...] = ()  # those of these folders whose problem may disappear
    default_left_out: str = ""
    # Files of aliases below the root, as they were when they were read, and their problems.
    alias_files: Mapping[Path, FileState] = field(default_factory=dict)
    alias_problems: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Model]:
        for endpoint in self.endpoints.values():
            yield from endpoint

    @property
    def datasets(self) -> dict[str, list[Endpoint]]:
        """Return the endpoints of each data set by its name."""
        groups: dict[str, list[Endpoint]] = {}
        for endpoint in self.endpoints.values():
            groups.setdefault(endpoint.dataset, []).append(endpoint)
        return groups

    def open_first_sessions(self) -> None:
        """Open the sessions of the default model and of models without a checksum.

        A model without a checksum may never have run, so it is tried before a request needs it.
        Raises RepositoryError if no model can be run.
        """
        for model in self:
            if model is self.default.find() or not model.has_checksum:
                _ = model.problem
        if all(model.known_problem for model in self):
            raise RepositoryError("\n".join(self.problems.values()))

    @property
    def default_problem(self) -> str:
        """Return why the default model cannot answer now, or ""."""
        return self.default_left_out or self.default.find().problem

    @property
    def problems(self) -> dict[str, str]:
        """Return the known problems: folder below the root -> the problem of its model."""
        found = {
            m.folder.relative_to(self.root).as_posix(): m.known_problem
            for m in self
            if m.known_problem
        }
        return {**self.left_out, **found}


def find_each(endpoints: Sequence[Endpoint], rule: str | None = None) -> list[Model]:
    """Return one model of each of a data set's `endpoints`: the default one, or that of `rule`.

    Endpoints without the rule are left out. The rule `all` gives the champion of every rule.
    Raises RequestError 404, which lists the existing rules, if no endpoint has the rule.
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
    """Return the rules of all `endpoints`."""
    return list(dict.fromkeys(rule for endpoint in endpoints for rule in endpoint.models))
