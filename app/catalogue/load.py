"""Reading the model repository: which models can be served, and the problems of the others."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from app.catalogue.catalogue import (
    ALL_RULES,
    Catalogue,
    Endpoint,
    FileState,
    Model,
    RepositoryError,
)
from app.catalogue.network import ModelError, check_providers
from app.catalogue.session import ModelBytes
from app.settings import CPU, Settings
from models.aliases import ALIASES, AliasError, Aliases, read_aliases
from models.cards import (
    COMPARE,
    INT8_MODEL,
    ONNX_MODEL,
    RULES,
    SAMPLE_IMAGES,
    Card,
    CardError,
    is_name,
    model_folders,
    read_card,
)
from models.files import read_regular

SAMPLES = Path(__file__).parent.parent / "static" / "samples"
_MOST_SAMPLES = 20


def load_catalogue(
    settings: Settings,
    skip: Callable[[Model], bool] = lambda _: False,
    broken: Mapping[Path, str] = MappingProxyType({}),
    served: Iterable[Model] = (),
) -> Catalogue:
    """Return the models in or below `settings.weights`. Their sessions are not tried.

    A model is left out if its card is broken, if the file to run is missing or changed, or if
    another model has its name and version. `broken` gives the problems of folders whose model
    cannot be run, which are left out too. If a model that is left out is among the `served`, that
    one stays. An unchanged model is the same object as in `served`. Models for which `skip` is true
    are not served. Raises RepositoryError for a missing or empty folder, and if no model is left.
    """
    if settings.providers != (CPU,):  # which every ONNX Runtime has
        try:
            check_providers(settings.providers)
        except ModelError as error:
            raise RepositoryError(f"METAPLASTIC_PROVIDERS: {error}") from error
    root = settings.weights
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise RepositoryError(f"METAPLASTIC_WEIGHTS: {root} {problem}. {_ADVICE}")
    # First every folder gives a model or an error; then models are grouped into endpoints.
    former = {model.folder: model for model in served}
    models: dict[tuple[str, int], Model] = {}
    errors: dict[Path, RepositoryError] = {}
    endpoint_of: dict[str, str] = {}  # by its name in the standard protocols, without the rule
    for folder in model_folders(root):
        try:
            if folder in broken:
                raise RepositoryError(broken[folder], passing=True)
            model = load_model(folder, settings, former.get(folder))
        except RepositoryError as error:
            errors[folder] = error
            if folder not in former:
                continue
            model = former[folder]
        identity = model.card.name, model.card.version
        name = model.card.endpoint.replace("/", "-")
        if other := models.get(identity):
            errors[folder] = RepositoryError(
                f"{other.folder} and {folder} are both {identity[0]} version {identity[1]}. "
                "Serve one of them only with METAPLASTIC_WEIGHTS, or remove one."
            )
        elif endpoint_of.setdefault(name, model.card.endpoint) != model.card.endpoint:
            # The standard protocols and Swagger's operations would take one for the other.
            errors[folder] = RepositoryError(
                f"{folder}: {model.card.endpoint} and {endpoint_of[name]} are both called {name} "
                "in the standard protocols. Give one of them another name."
            )
        else:
            models[identity] = model
    if not models and not errors:
        raise RepositoryError(f"METAPLASTIC_WEIGHTS: no model in {root}. {_ADVICE}")
    left_out = {_below(root, folder): str(error) for folder, error in errors.items()}
    # Unloaded models are removed last, so that their problems are still reported.
    models = {identity: model for identity, model in models.items() if not skip(model)}
    if not models:
        problems = left_out.values() or [f"METAPLASTIC_WEIGHTS: no model of {root} would be left."]
        raise RepositoryError("\n".join(problems))
    named = NamedVersions(models.values())
    groups = _by_endpoint(list(models.values()))
    endpoints = {name: _endpoint(group, named) for name, group in groups.items()}
    default = endpoints.get(settings.model)
    return Catalogue(
        root,
        endpoints,
        default or next(iter(endpoints.values())),
        left_out,
        tuple(folder for folder, error in errors.items() if error.passing),
        "" if default else _problem_of(settings.model, errors),
        named.files,
        tuple(named.problems),
    )


def _problem_of(endpoint: str, errors: Mapping[Path, RepositoryError]) -> str:
    """Return the problems of an endpoint's models that are left out, or ""."""
    found = [
        str(error)
        for folder, error in errors.items()
        # If the card cannot be read, the folders <dataset>/<architecture>/<rule>/<version> give the
        # endpoint.
        if endpoint == (error.endpoint or "/".join(folder.resolve().parts[-4:-2]))
    ]
    return "\n".join(found)


_ADVICE = (
    "Set it to a model repository or to the folder of a run, or fill the repository: "
    "python -m models train mnist lenet, then python -m models publish RUN."
)


def _below(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()


def load_model(folder: Path, settings: Settings, former: Model | None = None) -> Model:
    """Return the model in `folder`, or `former` if it has not changed. Its session is not tried.

    It runs `model.int8.onnx` if `settings` allow and there is one that the card knows, else
    `model.onnx`.
    Raises RepositoryError.
    """
    try:
        card = read_card(folder)
    except CardError as error:
        message = f"{error}. Publish the model again, or remove its folder."
        raise RepositoryError(message, passing=True) from error
    _check(card, folder)
    # A link that leads nowhere is a broken file, not an absent one.
    has_int8 = card.int8 is not None and os.path.lexists(folder / INT8_MODEL)
    runs = INT8_MODEL if has_int8 and settings.runs_int8 else ONNX_MODEL
    path = folder / runs
    # The bytes that are hashed here are the bytes that are run, even if the file changes later.
    try:
        content = ModelBytes(path)
    except OSError as error:
        raise RepositoryError(
            f"{path}: cannot be read ({error.strerror}). Make it with: python -m models export RUN",
            passing=True,
            endpoint=card.endpoint,
        ) from error
    model = Model(card, folder, runs, content, settings.providers)
    if model.has_checksum and card.files[runs] != content.sha256:
        raise RepositoryError(
            f"{path}: is not the file that its card describes (SHA-256 differs). "
            "Publish the model again.",
            passing=True,
            endpoint=card.endpoint,
        )
    unchanged = former and former.card == card and former.content.sha256 == content.sha256
    return former if former and unchanged else model


def _check(card: Card, folder: Path) -> None:
    """Raise RepositoryError if a card's names cannot be served."""
    for word in (card.dataset, card.architecture, card.rule):
        if not is_name(word):
            raise RepositoryError(
                f"{folder / 'card.json'}: {word!r} cannot stand in a URL. "
                "Names have lower-case letters and digits, joined by hyphens."
            )
    if card.architecture == COMPARE:
        raise RepositoryError(
            f"{folder / 'card.json'}: no architecture can be called {COMPARE!r}: "
            f"/api/{card.dataset}/{COMPARE} asks all of them. Give it another name."
        )
    if card.rule == ALL_RULES:
        raise RepositoryError(
            f"{folder / 'card.json'}: no rule can be called {ALL_RULES!r}: "
            f"?rule={ALL_RULES} compares all of them. Give it another name."
        )


def _by_endpoint(models: list[Model]) -> dict[str, list[Model]]:
    groups: dict[str, list[Model]] = {}
    for model in models:
        groups.setdefault(model.card.endpoint, []).append(model)
    return dict(sorted(groups.items()))


class NamedVersions:
    """The aliases beside the versions of `models`, read once."""

    def __init__(self, models: Iterable[Model]) -> None:
        folders = {
            model.folder.parent for model in models if model.folder.name == str(model.card.version)
        }
        # The state first: a file that changes in between is read again.
        self.files = alias_states(folders)
        self.problems: list[str] = []
        self._aliases: dict[Path, Aliases] = {}
        for folder in sorted(folders):
            try:
                self._aliases[folder] = read_aliases(folder)
            except AliasError as error:
                self.problems.append(f"{error}. The newest published version answers.")

    def of(self, versions: Mapping[int, Model]) -> tuple[int, int | None]:
        """Return the champion and the challenger among `versions`, the newest of which is first.

        If the champion is not served, it is the newest version that was published,
        and without one the newest that is not the challenger.
        """
        newest, model = next(iter(versions.items()))
        aliases = self._aliases.get(model.folder.parent, Aliases())
        champion, challenger = aliases.champion, aliases.challenger
        if champion is None or champion not in versions:
            others = [version for version in versions if version != challenger]
            # A version that learned from votes may have failed at its gates.
            published = [at for at in others if versions[at].card.learned is None]
            instead = next(iter(published or others), newest)
            if champion is not None:
                self.problems.append(
                    f"{model.folder.parent / ALIASES}: the champion, version {champion}, is not "
                    f"served. Version {instead} answers."
                )
            champion = instead
        answers: int = champion
        if challenger not in versions or challenger == answers:
            challenger = None
        return answers, challenger


def alias_states(folders: Iterable[Path]) -> dict[Path, FileState]:
    """Return the state of the file of aliases in each of `folders`."""
    return {folder: _state(folder / ALIASES) for folder in folders}


def _state(path: Path) -> FileState:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _endpoint(models: list[Model], named: NamedVersions) -> Endpoint:
    """Return the endpoint of `models`, which share a data set and an architecture."""
    by_rule: dict[str, dict[int, Model]] = {}
    for model in sorted(models, key=lambda model: -model.card.version):
        by_rule.setdefault(model.card.rule, {})[model.card.version] = model
    challengers = {}
    for rule, versions in by_rule.items():
        champion, challenger = named.of(versions)
        by_rule[rule] = {champion: versions[champion], **versions}
        if challenger is not None:
            challengers[rule] = versions[challenger]
    ordered = dict(sorted(by_rule.items(), key=lambda item: _preference(*item)))
    dataset, architecture = models[0].card.dataset, models[0].card.architecture
    return Endpoint(dataset, architecture, ordered, _samples(dataset, models), challengers)


def _preference(rule: str, versions: Mapping[int, Model]) -> tuple[bool, int, str]:
    """Return a sort key: the default rule first, the others as in RULES.

    The default rule is the one whose champion's card says so.
    """
    champion = next(iter(versions.values()))
    return not champion.card.default, RULES.index(rule) if rule in RULES else len(RULES), rule


def _samples(dataset: str, models: Iterable[Model]) -> dict[str, bytes]:
    """Return the data set's drawn samples, or else those that a model was published with."""
    newest = sorted(models, key=lambda model: -model.card.version)
    folders = [SAMPLES / dataset, *(model.folder / SAMPLE_IMAGES for model in newest)]
    found = (sorted(folder.glob("*.png"))[:_MOST_SAMPLES] for folder in folders)
    return {path.stem: read_regular(path) for path in next(filter(None, found), [])}


def new_in(found: Iterable[Model], served: Iterable[Model]) -> list[Model]:
    """Return the `found` models that are not among the `served` with the same content."""
    known = {(model.folder, identity_of(model)) for model in served}
    return [model for model in found if (model.folder, identity_of(model)) not in known]


def identity_of(model: Model) -> str:
    """Return a text that is equal for models that run alike."""
    target = model.card.input
    image = f"{target.height}x{target.width}x{target.channels}"
    return f"{model.content.sha256} {image} {len(model.card.labels)}"
