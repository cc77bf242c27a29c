"""What browsers are told; and whose word is taken for where a request comes from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.web.keys import hash_of
from tests.app.asking import LENET

Make = Callable[..., FlaskClient]
SITE = "https://example.org"


@pytest.mark.parametrize("path", ["/", "/api/models", "/nowhere", "/v2"])
def test_every_answer_has_the_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Strict-Transport-Security" not in headers
    assert "Access-Control-Allow-Origin" not in headers


def test_a_page_has_each_header_once_and_its_own_words_in_them(client: FlaskClient) -> None:
    headers = client.get("/demo").headers
    names = [name for name, _ in headers]
    assert len(names) == len(set(names))
    assert headers["Referrer-Policy"] == "same-origin"


def test_other_sites_may_not_call_unless_named(client: FlaskClient) -> None:
    asked = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    response = client.options(LENET, headers=asked)
    assert not [name for name in dict(response.headers) if name.startswith("Access-Control")]


@pytest.mark.parametrize("allowed", [(SITE,), ("https://other.org", SITE), ("*",)])
def test_a_site_that_is_named_may_call(make_client: Make, repository: Path, allowed: Any) -> None:
    client = make_client(weights=repository, cors_origins=allowed)
    asked = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    preflight = client.options(LENET, headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == ("*" if "*" in allowed else SITE)
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert "X-API-Key" in preflight.headers["Access-Control-Allow-Headers"]
    answer = client.get("/api/models", headers={"Origin": SITE})
    assert answer.headers["Access-Control-Allow-Origin"] in ("*", SITE)
    assert "Origin" in answer.headers["Vary"]
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    limits = {f"X-RateLimit-{what}" for what in ("Limit", "Remaining", "Reset")}
    assert {"X-Request-ID", "Retry-After", *limits} <= set(exposed)


def test_a_site_that_is_not_named_may_not(make_client: Make, repository: Path) -> None:
    client = make_client(weights=repository, cors_origins=("https://other.org",))
    answer = client.get("/api/models", headers={"Origin": SITE})
    assert "Access-Control-Allow-Origin" not in answer.headers


FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Prefix": "/vision",
}


def test_what_a_proxy_says_is_believed_where_it_is_set(make_client: Make, repository: Path) -> None:
    client = make_client(weights=repository, proxies=1)
    answer = client.get("/swagger.json", headers=FORWARDED)
    assert answer.json["basePath"] == "/vision"
    assert "Strict-Transport-Security" in answer.headers


def test_and_nowhere_else(client: FlaskClient) -> None:
    answer = client.get("/swagger.json", headers=FORWARDED)
    assert answer.json["basePath"] == "/"
    assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize(
    "prefix",
    [
        *("//evil.example", "https://evil.example", "/\\evil.example"),
        *("/%2fevil", "/a/..", "/./evil", "/a b", "/a//b", "vision"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/demo", "/swagger.json", "/static/none"])
def test_a_prefix_that_leads_to_another_host_is_refused(
    make_client: Make, repository: Path, path: str, prefix: str
) -> None:
    client = make_client(weights=repository, proxies=1)
    answer = client.get(path, headers={"X-Forwarded-Prefix": prefix})
    assert answer.status_code == 400
    assert "X-Forwarded-Prefix: expected a path such as /vision" in answer.text
    assert f'="{prefix}' not in answer.text  # no link on the page of the error either


@pytest.mark.parametrize("prefix", ["/vision", "/vision/", "/a.b/c-d_e~1", ""])
def test_a_prefix_that_is_a_path_is_believed(
    make_client: Make, repository: Path, prefix: str
) -> None:
    client = make_client(weights=repository, proxies=1)
    answer = client.get("/swagger.json", headers={"X-Forwarded-Prefix": prefix})
    assert answer.json["basePath"] == (prefix.rstrip("/") or "/")


def test_what_needs_a_key_is_kept_by_no_cache_on_the_way(
    make_client: Make, repository: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"alice user {hash_of('a')}\n")
    paths = [f"{LENET}/{name}" for name in ("curves.png", "confusion.png")] + ["/api/models"]
    for settings, expected in ({"keys": keys}, True), ({}, False):
        client = make_client(weights=repository, **settings)
        for path in paths:
            with client.get(path, headers={"X-API-Key": "a"}) as answer:
                assert answer.status_code == 200
                directives = answer.headers.get("Cache-Control", "").split(", ")
                assert ("private" in directives) == expected
                assert not (expected and "public" in directives)
        with client.get("/static/samples/mnist/seven.png") as answer:
            assert "private" not in answer.headers["Cache-Control"]


def test_who_is_refused_for_a_moment_is_not_told_to_wait_for_the_window_to_end(
    make_client: Make, put_model: Callable[..., Path]
) -> None:
    (put_model(files={}) / "model.onnx").write_bytes(b"not a model")
    client = make_client(rate_limit="2/day")
    asked = [client.post(f"{LENET}?sample=one") for _ in range(3)]
    assert [answer.status_code for answer in asked] == [503, 503, 429]
    moment, again, limited = (int(answer.headers["Retry-After"]) for answer in asked)
    assert moment == again == 1
    assert limited > 3600
