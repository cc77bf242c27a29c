"""Every way to send an image and to say what is wanted.

The client holds each answer against its own documentation in swagger.json.
"""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image, ImageChops, ImageDraw

from app.catalogue.load import SAMPLES
from scripts.draw_samples import TABLES
from scripts.samples.digits import draw_digit
from tests.app.asking import LENET, only_prediction, refused, send_many, upload


def test_an_uploaded_file_is_classified(client: FlaskClient, seven: bytes) -> None:
    response = upload(client, file=seven)
    prediction = only_prediction(response)
    assert prediction["label"] == "7"
    assert prediction["filename"] == "file.png"
    assert prediction["in_distribution"] is True
    assert prediction["preprocessing"]
    assert response.json["model"] == f"mnist-lenet-{response.json['rule']}"
    assert response.json["version"] >= 1


def test_predict_is_the_same_in_one_word(client: FlaskClient, seven: bytes) -> None:
    assert upload(client, "/predict", file=seven).json == upload(client, file=seven).json


@pytest.mark.parametrize("kind", ["image/png", "image/x-odd", "application/octet-stream"])
def test_a_raw_body_is_classified(client: FlaskClient, seven: bytes, kind: str) -> None:
    response = client.post(LENET, data=seven, content_type=kind)
    assert only_prediction(response)["label"] == "7"


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_base64_in_json_is_classified(client: FlaskClient, seven: bytes, prefix: str) -> None:
    text = prefix + base64.encodebytes(seven).decode()
    assert only_prediction(client.post(LENET, json={"image": text}))["label"] == "7"


def test_several_files_are_answered_in_their_order(client: FlaskClient, seven: bytes) -> None:
    three = (SAMPLES / "mnist" / "three.png").read_bytes()
    response = send_many(client, ("a.png", seven), ("b.png", three), ("c.png", seven))
    found = [(entry["filename"], entry["label"]) for entry in response.json["predictions"]]
    assert found == [("a.png", "7"), ("b.png", "3"), ("c.png", "7")]


def test_several_base64_images_are_answered(client: FlaskClient, seven: bytes) -> None:
    text = base64.b64encode(seven).decode()
    response = client.post(LENET, json={"images": [text, text]})
    assert [entry["label"] for entry in response.json["predictions"]] == ["7", "7"]


def test_a_batch_is_answered_like_its_images_one_by_one(client: FlaskClient) -> None:
    names = client.get(LENET).json["samples"]
    pictures = [(SAMPLES / "mnist" / f"{name}.png").read_bytes() for name in names]
    batch = send_many(client, *zip(names, pictures, strict=True)).json["predictions"]
    for name, picture, entry in zip(names, pictures, batch, strict=True):
        alone = only_prediction(send_many(client, (name, picture)))
        assert alone["label"] == entry["label"]
        assert alone["probability"] == pytest.approx(entry["probability"], abs=2e-6)


def test_more_images_than_a_network_takes_at_once_are_answered_in_their_order(
    client: FlaskClient,
) -> None:
    digits = [3, 7, 1] * 12
    names = {3: "three", 7: "seven", 1: "one"}
    pictures = {d: (SAMPLES / "mnist" / f"{name}.png").read_bytes() for d, name in names.items()}
    response = send_many(client, *((f"{digit}.png", pictures[digit]) for digit in digits))
    assert [int(entry["label"]) for entry in response.json["predictions"]] == digits


@pytest.mark.parametrize("place", ["multipart", "form", "query"])
def test_a_sample_is_classified(client: FlaskClient, place: str) -> None:
    if place == "multipart":
        response = client.post(LENET, data={"sample": "seven"}, content_type="multipart/form-data")
    elif place == "form":
        response = client.post(LENET, data={"sample": "seven"})
    else:
        response = client.post(f"{LENET}?sample=seven")
    assert only_prediction(response)["label"] == "7"
    assert only_prediction(response)["filename"] == "seven.png"


def test_samples_are_recognised(client: FlaskClient) -> None:
    """By what answers at each endpoint when no rule and no version is asked for.

    A network that errs with more than a quarter of the test images may mistake some of them.
    """
    for model in client.get("/api/models").json["models"]:
        if model["default"]:
            table = TABLES.get(model["dataset"], {})
            endpoint = model["endpoint"]
            assert sorted(client.get(endpoint).json["samples"]) == sorted(table)
            right = [
                only_prediction(client.post(endpoint, data={"sample": name}))["label"]
                == sample.label
                for name, sample in table.items()
            ]
            needed = len(table) if model["accuracy"] > 0.75 else len(table) / 2
            assert sum(right) >= needed, (endpoint, dict(zip(table, right, strict=True)))


def test_a_file_wins_over_the_sample(client: FlaskClient, seven: bytes) -> None:
    form = {"file": (io.BytesIO(seven), "mine.png"), "sample": "three"}
    assert only_prediction(client.post(LENET, data=form))["label"] == "7"


def test_a_file_field_left_empty_by_a_browser_counts_as_none(client: FlaskClient) -> None:
    form = {"file": (io.BytesIO(b""), ""), "sample": "seven"}
    assert only_prediction(client.post(LENET, data=form))["label"] == "7"
    refused(client.post(LENET, data={"file": (io.BytesIO(b""), "")}), 400, "missing_image")


def test_top_says_how_many_classes_are_listed(client: FlaskClient) -> None:
    assert len(only_prediction(client.post(f"{LENET}?sample=one"))["top"]) == 3
    everything = only_prediction(client.post(f"{LENET}?sample=one&top=10"))["top"]
    assert sum(candidate["probability"] for candidate in everything) == pytest.approx(1, abs=1e-5)
    probabilities = [candidate["probability"] for candidate in everything]
    assert probabilities == sorted(probabilities, reverse=True)


def test_every_rule_can_be_asked_for(client: FlaskClient) -> None:
    for entry in client.get(LENET).json["rules"]:
        for version in entry["versions"]:
            url = f"{LENET}?sample=one&rule={entry['rule']}&version={version}"
            answer = client.post(url).json
            assert (answer["rule"], answer["version"]) == (entry["rule"], version)


def test_preprocessing_can_be_left_out(client: FlaskClient) -> None:
    cooked = only_prediction(client.post(f"{LENET}?sample=seven&preprocess=auto"))
    raw = only_prediction(client.post(f"{LENET}?sample=seven&preprocess=raw"))
    assert len(raw["preprocessing"]) < len(cooked["preprocessing"])


def test_a_new_folder_is_a_new_endpoint(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient], seven: bytes
) -> None:
    labels = [*"abcdefghij"]
    put_model("x", dataset="letters", architecture="vgg-8", rule="brainprop", labels=labels)
    client = make_client()
    answer = upload(client, "/api/letters/vgg-8", file=seven).json
    assert answer["model"] == "letters-vgg-8-brainprop"
    assert answer["predictions"][0]["label"] == "h"
    assert "/api/letters/vgg-8" in client.get("/swagger.json").json["paths"]
    assert upload(client, "/predict", file=seven).json == answer


def test_answers_are_valid_json_with_keys_in_order(client: FlaskClient) -> None:
    text = client.post(f"{LENET}?sample=one").text
    assert list(json.loads(text)) == ["model", "rule", "version", "predictions"]


def test_the_image_that_the_network_saw_is_answered_where_it_is_asked_for(
    client: FlaskClient, seven: bytes
) -> None:
    response = send_many(client, ("a", seven), ("b", seven), url=f"{LENET}?prepared=true")
    for prediction in response.json["predictions"]:
        image = Image.open(io.BytesIO(base64.b64decode(prediction["prepared"])))
        assert (image.mode, image.size) == ("L", (28, 28))
        assert image.getpixel((0, 0)) == 0  # light on dark, as in the data set
    assert "prepared" not in only_prediction(upload(client, file=seven))
    refused(upload(client, f"{LENET}?prepared=yes", file=seven), 400, "bad_parameter")


# Images that cannot be used, in their place -----------------------------------------------------


def test_with_partial_an_error_stands_in_its_images_place(
    client: FlaskClient, seven: bytes, blank: bytes
) -> None:
    files = [("a.png", seven), ("b.png", b"no picture"), ("c.png", blank), ("d.png", b"")]
    files.append(("e.png", seven))
    response = send_many(client, *files, url=f"{LENET}?partial=true")
    assert response.status_code == 200
    found = response.json["predictions"]
    assert [entry["filename"] for entry in found] == [name for name, _ in files]
    assert [entry.get("label") for entry in found] == ["7", None, None, None, "7"]
    codes = [entry["error"]["code"] for entry in found[1:4]]
    assert codes == ["not_an_image", "no_content", "empty_file"]
    for entry in found[1:4]:
        assert entry["error"]["message"]
        assert "probability" not in entry


def test_with_partial_bad_base64_spoils_no_other_image(client: FlaskClient, seven: bytes) -> None:
    text = base64.b64encode(seven).decode()
    sent = {"images": ["%%%", text, 7]}
    first, second, third = client.post(f"{LENET}?partial=true", json=sent).json["predictions"]
    assert first["error"]["code"] == third["error"]["code"] == "bad_base64"
    assert second["label"] == "7"
    error = refused(client.post(LENET, json=sent), 400, "bad_base64")
    assert error["index"] == 0


def test_with_partial_a_request_without_a_usable_image_is_answered(
    client: FlaskClient, blank: bytes
) -> None:
    response = send_many(client, ("a.png", blank), ("b.png", blank), url=f"{LENET}?partial=true")
    codes = [entry["error"]["code"] for entry in response.json["predictions"]]
    assert codes == ["no_content", "no_content"]


def test_without_partial_one_unusable_image_refuses_the_request(
    client: FlaskClient, seven: bytes, blank: bytes
) -> None:
    for query in ("", "?partial=false"):
        response = send_many(client, ("a.png", seven), ("b.png", blank), url=f"{LENET}{query}")
        assert refused(response, 422, "no_content")["index"] == 1


def test_partial_is_of_requests_that_may_hold_several_images(
    client: FlaskClient, seven: bytes
) -> None:
    for url in ("/api/mnist/compare", f"{LENET}/explain"):
        refused(upload(client, f"{url}?partial=true", file=seven), 400, "unknown_parameter")


# Several digits ----------------------------------------------------------------------------------


def digits(*each: int, gap: int = 20) -> bytes:
    """A PNG of digits side by side, of a hand's own heights."""
    drawn = [draw_digit(digit, (110, 140 - 12 * (place % 2))) for place, digit in enumerate(each)]
    page = Image.new("RGB", (len(drawn) * (90 + gap) + 60, 180), "white")
    for place, picture in enumerate(drawn):
        ink = ImageChops.invert(picture.convert("L"))
        page.paste("black", (30 + place * (90 + gap), 15), ink)
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("each", [(1, 0), (4, 2), (7, 3, 5), (2, 0, 2, 6)])
def test_digits_side_by_side_are_warned_of_and_read_from_left_to_right(
    client: FlaskClient, each: tuple[int, ...]
) -> None:
    warned = only_prediction(upload(client, file=digits(*each)))
    assert warned["warnings"] == [f"several marks: {len(each)}"]
    assert "digits" not in warned
    read = only_prediction(upload(client, f"{LENET}?digits=several", file=digits(*each)))
    assert read["digits"]["text"] == "".join(map(str, each))
    assert len(read["digits"]["probabilities"]) == len(each)
    assert all(0.5 < probability <= 1 for probability in read["digits"]["probabilities"])


def test_one_digit_is_read_as_one(client: FlaskClient, seven: bytes) -> None:
    prediction = only_prediction(upload(client, f"{LENET}?digits=several", file=seven))
    assert "warnings" not in prediction
    assert prediction["digits"] == {"text": "7", "probabilities": [prediction["probability"]]}


def broken_strokes() -> dict[str, Image.Image]:
    """Single digits of several marks: a five's bar apart, a dot above, strokes with gaps."""
    five, seven, eight = (draw_digit(digit, (200, 200)) for digit in (5, 7, 8))
    ImageDraw.Draw(five).line((60, 52, 80, 76), "white", 10)
    ImageDraw.Draw(seven).line((20, 96, 180, 104), "white", 7)
    ImageDraw.Draw(eight).line((20, 100, 180, 100), "white", 6)
    dotted = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(dotted).line((100, 70, 98, 180), "black", 16)
    ImageDraw.Draw(dotted).ellipse((88, 24, 116, 52), "black")
    zero = draw_digit(0, (200, 200))
    ImageDraw.Draw(zero).line((100, 10, 104, 190), "white", 7)
    return {"bar": five, "seven": seven, "eight": eight, "dot": dotted, "halves": zero}


@pytest.mark.parametrize("name", broken_strokes())
def test_parts_of_one_digit_are_not_several(client: FlaskClient, name: str) -> None:
    buffer = io.BytesIO()
    broken_strokes()[name].save(buffer, "PNG")
    assert "warnings" not in only_prediction(upload(client, file=buffer.getvalue()))


def test_every_sample_digit_is_one(client: FlaskClient) -> None:
    for name in client.get(LENET).json["samples"]:
        assert "warnings" not in only_prediction(client.post(LENET, data={"sample": name})), name


def test_several_digits_are_asked_of_networks_that_read_digits(
    client: FlaskClient, seven: bytes
) -> None:
    error = refused(
        upload(client, "/api/cifar10/lenet?digits=several", file=seven), 400, "bad_parameter"
    )
    assert error["parameter"] == "digits"
    assert "does not read digits" in error["message"]
    refused(upload(client, f"{LENET}?digits=3", file=seven), 400, "bad_parameter")
    raw = upload(client, f"{LENET}?digits=several&preprocess=raw", file=seven)
    refused(raw, 400, "bad_parameter")


def test_the_documentation_shows_digits_where_they_are_read(client: FlaskClient) -> None:
    paths = client.get("/swagger.json").json["paths"]

    def names(path: str) -> set[str]:
        return {each["name"] for each in paths[path]["post"]["parameters"]}

    assert {"partial", "digits"} <= names(LENET)
    assert "partial" in names("/api/cifar10/lenet")
    assert "digits" not in names("/api/cifar10/lenet")
