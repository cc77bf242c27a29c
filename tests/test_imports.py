"""The imports follow the layers of the project, without a circle, and the core needs no Flask.

All imports count: also those inside functions, and those that only the type checker sees.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "models", "studies")

# From the outermost layer to the innermost. A folder may import its own layer and inner ones.
LAYERS = (
    {"app.server", "app.commands"},
    {"app"},
    {"app.api", "app.protocols", "app.demo"},
    {"app.web", "app.predict"},
    {"app.feedback"},
    {"app.images"},
    {"app.telemetry"},
    {"app.catalogue"},
    {"app.settings", "app.errors"},
)
# Commands that still lie at the root: `python -m app.classify` and `python -m app.new_key`.
COMMANDS = {"app.classify", "app.new_key"}
SURFACES = ("app.api", "app.protocols", "app.demo")
SHARED_MODULES = {
    "models.aliases",
    "models.calibration",
    "models.cards",
    "models.errors",
    "models.files",
    "models.parsing",
    "models.pictures",
    "models.processor",
    "models.terminal",
    "models.votes",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
}


def imported_by(module: str, path: Path) -> Iterator[str]:
    """Yield the full name of everything that the module imports, wherever it does."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                full = f"{source}.{alias.name}"
                yield full if full in MODULES else source


IMPORTS = {module: set(imported_by(module, path)) for module, path in MODULES.items()}


def folder_of(module: str) -> str:
    """Return the folder of a module, or the module itself if it lies at the root of its package."""
    return ".".join(module.split(".")[:2])


def arrows(package: str) -> dict[str, set[str]]:
    """Return, for each folder of the package, the other folders of it that it imports."""
    found: dict[str, set[str]] = {}
    for module, names in IMPORTS.items():
        source = folder_of(module)
        if source.split(".")[0] == package:
            inside = {folder_of(name) for name in names if name.split(".")[0] == package}
            found.setdefault(source, set()).update(inside - {source})
    return found


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Return a path that ends where it begins; empty if there is none."""
    done: set[str] = set()

    def walk(path: list[str]) -> list[str]:
        for follower in sorted(graph.get(path[-1], ())):
            if follower in path:
                return [*path[path.index(follower) :], follower]
            if follower not in done and (found := walk([*path, follower])):
                return found
        done.add(path[-1])
        return []

    return next((found for start in sorted(graph) if (found := walk([start]))), [])


def reached_from(module: str) -> set[str]:
    """Return everything that the import of a module leads to, packages' own files left out."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        for name in IMPORTS.get(waiting.pop(), ()):
            if name not in reached:
                reached.add(name)
                waiting.append(name)
    return reached


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folder_imports_itself_through_others(package: str) -> None:
    assert circle_in(arrows(package)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_through_others(package: str) -> None:
    inside = {name: {n for n in found if n in MODULES} for name, found in IMPORTS.items()}
    assert circle_in({name: found for name, found in inside.items() if is_in(name, package)}) == []


def test_a_circle_would_be_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def layer(folder: str) -> int:
    if folder in COMMANDS:
        return 0
    innermost = len(LAYERS) - 1  # where app.errors is, and all other modules at the root
    return next((place for place, names in enumerate(LAYERS) if folder in names), innermost)


def test_every_folder_of_the_service_has_a_layer() -> None:
    known = set().union(*LAYERS)
    assert {folder_of(name) for name in MODULES if name.count(".") == 2 and is_in(name, "app")} <= (
        known
    )


def test_outer_layers_of_the_service_import_inner_ones_and_never_the_reverse() -> None:
    wrong = [
        f"{source} -> {target}"
        for source, targets in arrows("app").items()
        for target in targets
        if layer(target) < layer(source)
    ]
    assert wrong == []


def test_the_surfaces_do_not_import_each_other() -> None:
    wrong = [
        f"{source} -> {target}"
        for source, targets in arrows("app").items()
        for target in targets
        if source in SURFACES and target in SURFACES
    ]
    assert wrong == []


def test_the_service_imports_neither_keras_nor_the_training() -> None:
    for module, names in IMPORTS.items():
        if not is_in(module, "app"):
            continue
        reached = names | reached_from(module)
        assert not [n for n in reached if n.split(".")[0] in ("keras", "tensorflow")], module
        from_models = {name for name in reached if is_in(name, "models")}
        assert from_models <= SHARED_MODULES, module


@pytest.mark.parametrize("folder", ["app.predict", "app.images", "app.catalogue"])
def test_the_core_of_the_service_needs_no_flask(folder: str) -> None:
    web = ("flask", "flask_restx", "flask_limiter", "werkzeug", "gunicorn", "app.web")
    for module in (name for name in MODULES if is_in(name, folder)):
        found = [name for name in reached_from(module) for package in web if is_in(name, package)]
        assert found == [], module


def test_the_machine_learning_knows_nothing_of_the_service() -> None:
    outside = ("app", "flask", "flask_restx", "werkzeug", "gunicorn")
    for module, names in IMPORTS.items():
        if is_in(module, "models") or is_in(module, "studies"):
            found = [name for name in names for package in outside if is_in(name, package)]
            assert found == [], module


def test_only_the_command_line_imports_the_studies() -> None:
    importers = {
        module
        for module, names in IMPORTS.items()
        if not is_in(module, "studies") and any(is_in(name, "studies") for name in names)
    }
    assert importers <= {"models.__main__"}


@pytest.mark.parametrize("name", ["Answer", "Network", "Outcome", "Result"])
def test_a_name_means_one_type(name: str) -> None:
    definitions = [
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ClassDef) and node.name == name)
        or (isinstance(node, ast.Assign) and name in [ast.unparse(n) for n in node.targets])
    ]
    assert len(definitions) <= 1
