"""What the docs say is so: links, settings, routes, commands, and the versions in the pictures."""

import re
import shlex
from pathlib import Path

import pytest

from app import create_app
from app.settings import Settings, markdown_table
from models.arguments import command_line
from models.cards import find_models
from tests.e2e import pictures

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "weights"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (
        *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md"),
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
LINK = re.compile(r"\]\(([^)\s]+)\)")
OUTSIDE = ("http://", "https://")
TAKE_AGAIN = "CONTRIBUTING.md has the command that takes the pictures again"


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    lost = []
    for link in LINK.findall(PAGES[name]):
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        if link.startswith(OUTSIDE):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            lost.append(link)
    assert lost == []


def test_the_settings_are_those_of_the_service():
    assert markdown_table() in PAGES["docs/settings.md"], "the page has the command that prints it"


def test_every_route_of_the_api_is_there():
    client = create_app(Settings(weights=WEIGHTS)).test_client()
    routes = re.findall(r"^\| `(GET|POST) (/\S*)` \|", PAGES["docs/api.md"], re.M)
    assert len(routes) > 10
    names = {"<dataset>": "mnist", "<architecture>": "lenet", "<name>": "mnist-lenet-metaplastic"}
    for method, route in routes:
        path = re.sub("<[a-z]+>", lambda name: names[name[0]], route)
        form = {"sample": "seven"} if method == "POST" else {}
        with client.open(path, method=method, data=form) as answer:
            # 501: metrics of processes that do not count together
            assert answer.status_code in (200, 501), route


def test_every_documented_route_of_the_api_is_in_the_table():
    client = create_app(Settings(weights=WEIGHTS)).test_client()
    known = {
        f"{method.upper()} {path.replace('/mnist/lenet', '/<dataset>/<architecture>')}"
        for path, methods in client.get("/swagger.json").json["paths"].items()
        if path.startswith(("/api/mnist/lenet", "/api/models", "/predict", "/health"))
        for method in methods
        if method != "parameters"
    }
    assert [route for route in known if f"| `{route}` |" not in PAGES["docs/api.md"]] == []


COMMAND = re.compile(r"^    (?:[A-Z_]+=\S* )*python -m models (.+)$", re.M)
COMMANDS = [
    pytest.param(command, id=f"{name}: {command}")
    for name, page in PAGES.items()
    for command in COMMAND.findall(page)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_models_can_be_given(command):
    command_line().parse_args(shlex.split(command, comments=True))


@pytest.mark.parametrize("name", ["demo.png", "demo-model.png", "swagger.png"])
def test_a_picture_shows_the_version_that_is_served(name):
    served = {}
    for _, card in find_models(WEIGHTS):
        served[card.name] = max(card.version, served.get(card.name, 0))
    shown = pictures.recorded_models(ROOT / "docs/images" / name)
    assert shown == {model: served.get(model) for model in shown}, TAKE_AGAIN
