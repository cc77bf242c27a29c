"""The README is short, and what it says is so: its table, its line of the study, its curl call."""

import json
import re
from pathlib import Path

from app import create_app
from app.settings import Settings
from models.publishing.readme_table import models_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MOST_WORDS = 900  # as `wc -w` counts, tables and code included


def test_it_is_read_in_a_few_minutes():
    assert len(README.split()) <= MOST_WORDS, "the rest belongs into docs/"


def test_the_table_of_models_has_the_scores_of_their_cards():
    assert models_table(ROOT / "weights") in README, "python -m models list --markdown prints it"


def test_the_curl_call_has_its_real_answer():
    path, answer = re.search(
        r"curl -F file=@(\S+) localhost:5000/predict\n\n```json\n(.*?)\n```", README, re.S
    ).groups()
    image = ROOT / path
    client = create_app(Settings(weights=ROOT / "weights")).test_client()
    with image.open("rb") as file:
        found = client.post("/predict", data={"file": (file, image.name)}).json
    assert found == json.loads(answer)


def test_it_leads_to_every_page_of_the_docs():
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert pages <= set(re.findall(r"\]\(([^)#]+)\)", README))
