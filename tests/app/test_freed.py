"""What a refused request brought is freed with its answer, and not when the collector comes by."""

import ast
import base64
import gc
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.app.asking import LENET

MEBIBYTE = 1024 * 1024
BROKEN = b"\x89PNG\r\n\x1a\n" + bytes(MEBIBYTE)
# As bytes: the test client keeps what it makes of JSON itself.
IN_JSON = json.dumps({"images": [base64.b64encode(BROKEN).decode()]}).encode()
NOT_BASE64 = json.dumps({"images": ["!" * MEBIBYTE]}).encode()
APP = Path(__file__).parents[2] / "app"


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is freed but what no reference holds."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


@pytest.mark.parametrize(
    "request_of",
    [
        {"data": BROKEN, "content_type": "image/png"},
        {"data": IN_JSON, "content_type": "application/json"},
        {"data": NOT_BASE64, "content_type": "application/json"},
        {"data": BROKEN[8:], "content_type": "image/png"},
    ],
    ids=["broken picture", "broken picture in JSON", "no base64", "no picture"],
)
@pytest.mark.parametrize("url", [LENET, f"{LENET}?partial=true", "/api/mnist/compare"])
@pytest.mark.usefixtures("uncollected")
def test_refused_uploads_do_not_stay(
    client: FlaskClient, url: str, request_of: dict[str, object]
) -> None:
    plain = FlaskClient(client.application, client.application.response_class)
    plain.post(url, **request_of)  # what the first request loads stays
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(10):
        plain.post(url, **request_of)
    after, _ = tracemalloc.get_traced_memory()
    assert after - before < MEBIBYTE


def test_no_error_that_is_kept_is_raised_itself() -> None:
    """It would keep the frames of every request that it ended: `again` makes one to raise."""
    kept = [
        f"{path.relative_to(APP)}:{node.lineno}"
        for path in APP.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise)
        and (
            (isinstance(node.exc, ast.Name) and node.exc.id.isupper())
            or isinstance(node.exc, ast.Attribute)
        )
    ]
    assert kept == []
