"""What the tests of classification share: asking, and looking at the answer."""

import io
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

LENET = "/api/mnist/lenet"


def upload(client: FlaskClient, url: str = LENET, **files: bytes) -> TestResponse:
    """POST each file under its own field name."""
    form = {field: (io.BytesIO(data), f"{field}.png") for field, data in files.items()}
    return client.post(url, data=form)


def send_many(client: FlaskClient, *files: tuple[str, bytes], url: str = LENET) -> TestResponse:
    form = {"file": [(io.BytesIO(data), name) for name, data in files]}
    return client.post(url, data=form)


def refused(response: TestResponse, status: int, code: str) -> Any:
    """Check that `response` is an error in the one shape, and return it."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/json"
    error = response.json
    assert error["code"] == code
    assert error["message"]
    assert "Traceback" not in response.text
    return error


def only_prediction(response: TestResponse) -> Any:
    assert response.status_code == 200, response.text
    (prediction,) = response.json["predictions"]
    return prediction
