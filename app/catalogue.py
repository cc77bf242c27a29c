"""The shelf as the service sees it: its endpoints, their models, and each model's session."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from app.errors import RequestError
from app.inference import Network
from app.session import ModelBytes, Session
from app.settings import Settings, StartError
from models.cards import ONNX_MODEL, RULES, Card, CardError, model_folders, read_card
from models.files import read_regular

SAMPLES = Path(__file__).parent / "static" / "samples"
COMPARE = "compare"  # /api/<dataset>/compare asks every architecture, so that none may be called so
ALL_RULES = "all"  # and ?rule=all every rule of them
_NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")  # what may stand in a URL and in a model's name


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
    """A published model: its card, the folder that it lies in, and `model.onnx` as it was read."""

    card: Card
    folder: Path
    content: ModelBytes

    @property
    def vouched_for(self) -> bool:
        """Whether `model.onnx` is known to be the file that was published: it ran then."""
        return ONNX_MODEL in self.card.files

    @property
    def network(self) -> Network:
        """Opened when first asked for: in a worker, not in its parent, and only where it is used.

        Raises RequestError 503 where `model.onnx` is not a model that fits its card, or cannot be
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
        path = self.folder / ONNX_MODEL
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
        found = {_below(self.root, m.folder): m.known_problem for m in self if m.known_problem}
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


def load_catalogue(
    settings: Settings,
    skip: Callable[[Model], bool] = lambda _: False,
    broken: Mapping[Path, str] = MappingProxyType({}),
    served: Iterable[Model] = (),
) -> Catalogue:
    """The models at or below `settings.weights`, checked but for their sessions.

    A model with a broken card, a missing or changed `model.onnx`, or the name and version of
    another is left out; so is one in a folder that `broken` knows to hold one that cannot be run,
    with what is wrong. Where one of the `served` came from that folder, it stays in its place; it
    is the same object as before where nothing has changed. Those to `skip` are not looked for.
    Raises ShelfError for a missing or empty folder, and where no model is left.
    """
    root = settings.weights
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise ShelfError(f"METAPLASTIC_WEIGHTS: {root} {problem}. {_ADVICE}")
    former = {model.folder: model for model in served}
    models: dict[tuple[str, int], Model] = {}
    errors: dict[Path, ShelfError] = {}
    for folder in model_folders(root):
        try:
            if folder in broken:
                raise ShelfError(broken[folder], passing=True)
            model = load_model(folder, former.get(folder))
        except ShelfError as error:
            errors[folder] = error
            if folder not in former:
                continue
            model = former[folder]
        identity = model.card.name, model.card.version
        if other := models.get(identity):
            errors[folder] = ShelfError(
                f"{other.folder} and {folder} are both {identity[0]} version {identity[1]}. "
                "Name one of them with METAPLASTIC_WEIGHTS, or remove one."
            )
        else:
            models[identity] = model
    if not models and not errors:
        raise ShelfError(f"METAPLASTIC_WEIGHTS: no model in {root}. {_ADVICE}")
    left_out = {_below(root, folder): str(error) for folder, error in errors.items()}
    models = {identity: model for identity, model in models.items() if not skip(model)}
    if not models:
        problems = left_out.values() or [f"METAPLASTIC_WEIGHTS: no model of {root} would be left."]
        raise ShelfError("\n".join(problems))
    groups = _by_endpoint(list(models.values()))
    endpoints = {name: _endpoint(group) for name, group in groups.items()}
    default = endpoints.get(settings.model)
    return Catalogue(
        root,
        endpoints,
        default or next(iter(endpoints.values())),
        left_out,
        tuple(folder for folder, error in errors.items() if error.passing),
        "" if default else _problem_of(settings.model, errors),
    )


def _problem_of(endpoint: str, errors: Mapping[Path, ShelfError]) -> str:
    """What is wrong with the models of an endpoint that are left out, "" where there are none."""
    found = [
        str(error)
        for folder, error in errors.items()
        # Of a card that cannot be read, the folders of the shelf say what it was.
        if endpoint == (error.endpoint or "/".join(folder.resolve().parts[-4:-2]))
    ]
    return "\n".join(found)


_ADVICE = (
    "Name a shelf or a run folder, or fill the shelf: python -m models train mnist lenet, "
    "then python -m models publish RUN."
)


def _below(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()


def load_model(folder: Path, former: Model | None = None) -> Model:
    """The model in `folder`, checked but for its session; `former` again if it is still that one.

    Raises ShelfError.
    """
    try:
        card = read_card(folder)
    except CardError as error:
        message = f"{error}. Publish the model again, or remove its folder."
        raise ShelfError(message, passing=True) from error
    _check(card, folder)
    path = folder / ONNX_MODEL
    try:
        content = ModelBytes(path)
    except OSError as error:
        raise ShelfError(
            f"{path}: cannot be read ({error.strerror}). Make it with: python -m models export RUN",
            passing=True,
            endpoint=card.endpoint,
        ) from error
    model = Model(card, folder, content)
    if model.vouched_for and card.files[ONNX_MODEL] != content.sha256:
        raise ShelfError(
            f"{path}: is not the file that its card describes (SHA-256 differs). "
            "Publish the model again.",
            passing=True,
            endpoint=card.endpoint,
        )
    unchanged = former and former.card == card and former.content.sha256 == content.sha256
    return former if former and unchanged else model


def _check(card: Card, folder: Path) -> None:
    """Raise ShelfError where a card cannot be served."""
    for word in (card.dataset, card.architecture, card.rule):
        if not _NAME.fullmatch(word):
            raise ShelfError(
                f"{folder / 'card.json'}: {word!r} cannot stand in a URL; "
                "names are lower-case letters and digits, joined by hyphens."
            )
    if card.architecture == COMPARE:
        raise ShelfError(
            f"{folder / 'card.json'}: no architecture can be called {COMPARE!r}: "
            f"/api/{card.dataset}/{COMPARE} asks all of them. Give it another name."
        )
    if card.rule == ALL_RULES:
        raise ShelfError(
            f"{folder / 'card.json'}: no rule can be called {ALL_RULES!r}: "
            f"?rule={ALL_RULES} compares all of them. Give it another name."
        )


def _by_endpoint(models: list[Model]) -> dict[str, list[Model]]:
    groups: dict[str, list[Model]] = {}
    for model in models:
        groups.setdefault(model.card.endpoint, []).append(model)
    return dict(sorted(groups.items()))


def _endpoint(models: list[Model]) -> Endpoint:
    """The endpoint of `models`, which share a data set and an architecture."""
    by_rule: dict[str, dict[int, Model]] = {}
    for model in sorted(models, key=lambda model: -model.card.version):
        by_rule.setdefault(model.card.rule, {})[model.card.version] = model
    ordered = dict(sorted(by_rule.items(), key=lambda item: _preference(*item)))
    dataset, architecture = models[0].card.dataset, models[0].card.architecture
    return Endpoint(dataset, architecture, ordered, _samples(dataset))


def _preference(rule: str, versions: Mapping[int, Model]) -> tuple[bool, int, str]:
    """Sorts the rule whose newest card claims to be the default first, the others as RULES does."""
    newest = next(iter(versions.values()))
    return not newest.card.default, RULES.index(rule) if rule in RULES else len(RULES), rule


def _samples(dataset: str) -> dict[str, bytes]:
    return {path.stem: read_regular(path) for path in sorted((SAMPLES / dataset).glob("*.png"))}
