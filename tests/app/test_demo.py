"""The demo's pages as they leave the service: complete, escaped, and bound to this host."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.app.made import put_linear

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
MODEL = "/demo/models/mnist/lenet"
PAGES = ["/demo", "/demo/", "/demo?dataset=mnist", "/demo/models", MODEL, f"{MODEL}/backprop"]


def page_data(html: str) -> Any:
    found = re.search(r'<script type="application/json" id="page">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])


@pytest.mark.parametrize("url", [*PAGES, "/demo?dataset=none", "/demo/models/no/such"])
def test_every_page_is_bound_to_this_host_and_to_no_inline_script(
    client: FlaskClient, url: str
) -> None:
    response = client.get(url)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    html = response.text
    assert not re.search(r'(src|href|action)="(https?:)?//', html)
    assert not re.search(r"\son\w+=|\sstyle=", html)
    scripts = re.findall(r"<script(?![^>]*(?:src=|application/json))", html)
    assert scripts == []


@pytest.mark.parametrize("url", PAGES)
def test_every_page_and_what_it_points_to_is_there(client: FlaskClient, url: str) -> None:
    response = client.get(url)
    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    targets = set(re.findall(r'(?:src|href)="(/[^"]*)"', response.text))
    assert targets
    for target in targets:
        with client.get(target.replace("&amp;", "&")) as found:
            assert found.status_code == 200, target


def test_all_models_are_offered_as_the_repository_has_them(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient], tmp_path: Path
) -> None:
    put_model("lenet")
    put_model("baseline", rule="backprop", default=False)
    put_linear(
        tmp_path / "birds", dataset="birds", architecture="tiny", style="photo", labels=["wren"] * 2
    )
    client = make_client()
    digits, birds = (page_data(client.get(f"/demo?dataset={d}").text) for d in ("mnist", "birds"))
    assert [(n["architecture"], n["rule"]) for n in digits["networks"]] == [
        ("lenet", "metaplastic"),
        ("lenet", "backprop"),
    ]
    assert (digits["draws"], birds["draws"]) == (True, False)
    assert birds["networks"][0]["labels"] == ["wren", "wren"]
    listed = client.get("/demo/models").text
    assert "/demo/models/birds/tiny/" in listed


def test_what_a_card_says_is_shown_as_text(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient], tmp_path: Path
) -> None:
    folder = put_model()
    card = json.loads((folder / "card.json").read_text())
    card["labels"][0] = HOSTILE
    card["training"] |= {"command": HOSTILE, "hardware": HOSTILE, "recipe": {HOSTILE: HOSTILE}}
    (folder / "card.json").write_text(json.dumps(card))
    client = make_client()
    for url in ("/demo", MODEL):
        html = client.get(url).text
        assert "<script>alert" not in html
        assert "<img src=x" not in html
    assert page_data(client.get("/demo").text)["networks"][0]["labels"][0] == HOSTILE


def test_a_model_without_test_scores_history_or_pictures_has_a_page(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient]
) -> None:
    put_model(test=None, control=None)
    client = make_client()
    assert "Validation accuracy" in client.get(MODEL).text
    assert "not published" in client.get("/demo/models").text


def test_many_classes_are_shown_by_their_mistakes(
    tmp_path: Path, make_client: Callable[..., FlaskClient]
) -> None:
    names = [f"kind {n}" for n in range(30)]
    put_linear(tmp_path, dataset="kinds", architecture="tiny", style="photo", labels=names)
    html = make_client().get("/demo/models/kinds/tiny").text
    assert 'id="matrix"' not in html
    assert "kind 3</th><td>kind 4</td>" in html


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/demo?dataset=none", 404),
        ("/demo/models/mnist/none", 404),
        (f"{MODEL}/none", 404),
        (f"{MODEL}?version=99", 404),
        (f"{MODEL}?version=x", 400),
        ("/demo?data=mnist", 400),
    ],
)
def test_a_page_that_is_not_there_says_so_in_words(
    client: FlaskClient, url: str, status: int
) -> None:
    response = client.get(url)
    assert (response.status_code, response.mimetype) == (status, "text/html")
    assert "Traceback" not in response.text


def test_behind_a_proxy_every_link_has_its_prefix(client: FlaskClient) -> None:
    for url in PAGES:
        html = client.get(url, environ_overrides={"SCRIPT_NAME": "/vision"}).text
        links = re.findall(r'(?:src|href)="(/[^"]*)"', html)
        assert all(link.startswith("/vision/") for link in links), links


def test_sample_pictures_of_a_model_itself_are_in_the_page(
    tmp_path: Path, make_client: Callable[..., FlaskClient], seven: bytes
) -> None:
    folder = put_linear(
        tmp_path / "own", dataset="own", architecture="tiny", style="photo", labels=["a", "b"]
    )
    (folder / "samples").mkdir()
    (folder / "samples" / "a.png").write_bytes(seven)
    page = make_client().get("/demo?dataset=own").text
    (source,) = re.findall(r'<img [^>]*src="(data:image/png;base64,[^"]*)"', page)
    assert base64.b64decode(source.partition(",")[2]) == seven


def test_drawn_sample_pictures_are_files_that_are_there(client: FlaskClient) -> None:
    sources = re.findall(r'src="(/static/samples/[^"]*)"', client.get("/demo").text)
    assert len(sources) > 3
    for source in sources:
        with client.get(source) as answer:
            assert answer.status_code == 200
