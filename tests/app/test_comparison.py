"""One image before every architecture of a data set.

The client holds each answer against its own documentation in swagger.json.
"""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.app.asking import refused, send_many, upload

COMPARE = "/api/mnist/compare"
DIGITS = [*"0123456789"]


@pytest.fixture
def two(put_model: Callable[..., Path], make_client: Callable[..., FlaskClient]) -> FlaskClient:
    """A client of a service with two architectures, one of them with a baseline."""
    put_model("vgg", architecture="vgg", version=2)
    put_model("lenet")
    put_model("baseline", rule="backprop", default=False)
    return make_client()


def results(response: Any) -> list[Any]:
    assert response.status_code == 200, response.text
    found: list[Any] = response.json["results"]
    return found


def test_each_architecture_says_what_its_own_endpoint_says(two: FlaskClient, seven: bytes) -> None:
    response = upload(two, COMPARE, file=seven)
    assert (response.json["dataset"], response.json["agree"]) == ("mnist", True)
    assert [result["architecture"] for result in results(response)] == ["lenet", "vgg"]
    for result in results(response):
        alone = upload(two, f"/api/mnist/{result['architecture']}", file=seven).json
        assert alone["predictions"] == [result["prediction"]]
        assert alone == {"predictions": alone["predictions"]} | {
            name: result[name] for name in ("model", "rule", "version")
        }
        assert result["milliseconds"] > 0
        assert 0.9 < result["test_accuracy"] <= 1


@pytest.mark.parametrize("way", ["file", "body", "json", "sample", "query"])
def test_every_way_to_send_an_image_is_understood(
    client: FlaskClient, seven: bytes, way: str
) -> None:
    if way == "file":
        response = upload(client, COMPARE, file=seven)
    elif way == "body":
        response = client.post(COMPARE, data=seven, content_type="image/png")
    elif way == "json":
        response = client.post(COMPARE, json={"image": base64.b64encode(seven).decode()})
    elif way == "sample":
        form = {"sample": "seven"}
        response = client.post(COMPARE, data=form, content_type="multipart/form-data")
    else:
        response = client.post(f"{COMPARE}?sample=seven")
    assert {result["prediction"]["label"] for result in results(response)} == {"7"}


def test_the_options_of_a_classification_hold_for_all(two: FlaskClient) -> None:
    raw = results(two.post(f"{COMPARE}?sample=seven&top=10&preprocess=raw"))
    for result in raw:
        assert len(result["prediction"]["top"]) == 10
        assert result["prediction"]["preprocessing"] == ["resized to 28x28"]


def test_a_rule_is_asked_of_the_architectures_that_have_it(two: FlaskClient) -> None:
    plain = results(two.post(f"{COMPARE}?sample=one&rule=backprop"))
    assert [(result["architecture"], result["rule"]) for result in plain] == [("lenet", "backprop")]
    both = results(two.post(f"{COMPARE}?sample=one&rule=metaplastic"))
    assert [result["architecture"] for result in both] == ["lenet", "vgg"]


def test_a_rule_that_none_has_is_answered_with_those_there_are(two: FlaskClient) -> None:
    error = refused(two.post(f"{COMPARE}?sample=one&rule=none"), 404, "unknown_rule")
    assert error["rules"] == ["metaplastic", "backprop"]


def test_other_labels_are_a_disagreement(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient]
) -> None:
    put_model("a", architecture="a")
    put_model("b", architecture="b", labels=DIGITS[::-1])
    response = make_client().post(f"{COMPARE}?sample=seven")
    assert [result["prediction"]["label"] for result in results(response)] == ["7", "2"]
    assert response.json["agree"] is False


def test_architectures_of_different_inputs_each_get_theirs(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient]
) -> None:
    photo = {"height": 28, "width": 28, "channels": 1, "style": "photo", "mean": [0], "std": [1]}
    put_model("a", architecture="a")
    put_model("b", architecture="b", input=photo)
    first, second = results(make_client().post(f"{COMPARE}?sample=seven"))
    assert "cropped to the ink" in first["prediction"]["preprocessing"]
    assert second["prediction"]["preprocessing"] == ["resized to 28x28"]


def test_a_model_without_test_scores_is_compared_without(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient]
) -> None:
    put_model(test=None)
    (result,) = results(make_client().post(f"{COMPARE}?sample=one"))
    assert "test_accuracy" not in result


def test_every_data_set_has_a_comparison_in_its_group(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient], seven: bytes
) -> None:
    put_model("a")
    put_model("b", dataset="big-letters", labels=[*"abcdefghij"])
    client = make_client()
    paths = client.get("/swagger.json").json["paths"]
    for dataset in ("mnist", "big-letters"):
        assert paths[f"/api/{dataset}/compare"]["post"]["tags"] == [dataset]
    (result,) = results(upload(client, "/api/big-letters/compare", file=seven))
    assert result["prediction"]["label"] == "h"


def test_one_image_is_expected(client: FlaskClient, seven: bytes) -> None:
    text = base64.b64encode(seven).decode()
    for response in (
        send_many(client, ("a.png", seven), ("b.png", seven), url=COMPARE),
        client.post(COMPARE, json={"images": [text] * 3}),
    ):
        error = refused(response, 413, "too_many_images")
        assert error["limit"] == 1
        assert "one is accepted" in error["message"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("top=0", "bad_parameter"),
        ("top=11", "bad_parameter"),
        ("preprocess=x", "bad_parameter"),
        ("version=1", "unknown_parameter"),
    ],
)
def test_a_bad_parameter_is_named(client: FlaskClient, query: str, code: str) -> None:
    error = refused(client.post(f"{COMPARE}?sample=one&{query}"), 400, code)
    assert error["parameter"] == query.partition("=")[0]


def test_an_image_that_cannot_be_used_is_refused_as_everywhere(
    client: FlaskClient, seven: bytes, blank: bytes
) -> None:
    refused(client.post(COMPARE), 400, "missing_image")
    refused(upload(client, COMPARE, image=seven), 400, "unknown_field")
    refused(upload(client, COMPARE, file=seven[:60]), 400, "unreadable_image")
    refused(upload(client, COMPARE, file=b"This is a text."), 415, "not_an_image")
    refused(
        client.post(COMPARE, data=b"x", content_type="text/plain"), 415, "unsupported_media_type"
    )
    refused(client.post(COMPARE, data={"sample": "none"}), 400, "unknown_sample")
    assert refused(upload(client, COMPARE, file=blank), 422, "no_content")["filename"] == "file.png"


def test_an_unknown_data_set_is_answered_with_what_there_is(client: FlaskClient) -> None:
    form = {"file": (io.BytesIO(b"x"), "x.png")}
    refused(client.post("/api/none/compare", data=form), 404, "unknown_endpoint")


def test_all_rules_of_all_architectures_may_be_compared(two: FlaskClient) -> None:
    every = results(two.post(f"{COMPARE}?sample=seven&rule=all"))
    assert [(result["architecture"], result["rule"]) for result in every] == [
        ("lenet", "metaplastic"),
        ("lenet", "backprop"),
        ("vgg", "metaplastic"),
    ]
