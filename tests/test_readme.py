"""What the README says is so: its tables, its curl call and its files."""

import json
import re
from pathlib import Path

from app import create_app
from app.settings import Settings, markdown_table
from models.publishing.readme_table import models_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_settings_are_those_of_the_service():
    assert markdown_table() in README


def test_the_table_of_models_has_the_scores_of_their_cards():
    assert models_table(ROOT / "weights") in README


def test_the_curl_call_has_its_real_answer():
    path, answer = re.search(
        r"curl -F file=@(\S+) localhost:5000/predict\n\n```json\n(.*?)\n```", README, re.S
    ).groups()
    image = ROOT / path
    client = create_app(Settings(weights=ROOT / "weights")).test_client()
    with image.open("rb") as file:
        found = client.post("/predict", data={"file": (file, image.name)}).json
    assert found == json.loads(answer)


def test_every_file_it_points_to_is_there():
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_route_it_names_is_documented():
    client = create_app(Settings(weights=ROOT / "weights")).test_client()
    paths = set(client.get("/swagger.json").json["paths"])
    assert {"/api/models", "/predict", "/health/live", "/health/ready"} <= paths
