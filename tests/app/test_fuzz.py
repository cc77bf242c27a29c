"""Pictures broken in every way: each is answered or refused, and no decoder but ours is reached."""

import io

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.images.decode import HEIC_IS_READ
from tests.app.asking import LENET, refused

ACCEPTED = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "TIFF", "PPM", "BMP")
ACCEPTED += ("HEIF",) * HEIC_IS_READ
MODES = ("L", "RGB", "RGBA", "P", "1", "CMYK", "I;16")


def saved(kind: str, mode: str, **options: object) -> bytes | None:
    picture = Image.radial_gradient("L").resize((24, 20))
    buffer = io.BytesIO()
    try:
        picture.convert(mode).save(buffer, kind, **options)
    except (OSError, ValueError, KeyError):  # the format has no such mode, or cannot be written
        return None
    return buffer.getvalue()


Image.init()  # all that Pillow knows
WRITTEN = {kind: data for kind in sorted(Image.SAVE) if (data := saved(kind, "RGB"))}
PICTURES = [
    data
    for kind in ACCEPTED
    for mode in MODES
    for options in ({}, {"progressive": True}, {"compression": "tiff_lzw"}, {"lossless": True})
    if (data := saved(kind, mode, **options))
]
OTHERS = {kind: data for kind, data in WRITTEN.items() if kind not in (*ACCEPTED, "MPO", "DIB")}


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """One of our pictures with bytes changed, cut out, repeated, or another picture's put in."""
    data = bytearray(draw(st.sampled_from(PICTURES)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 40))
        match draw(st.sampled_from(["change", "cut", "end", "repeat", "splice"])):
            case "change":
                new = draw(st.binary(max_size=8))
                data[place : place + len(new)] = new
            case "cut":
                del data[place : place + length]
            case "end":
                del data[place:]
            case "repeat":
                data[place:place] = data[place : place + length] * 50
            case "splice":
                data[place:] = draw(st.sampled_from(PICTURES))[place:]
    return bytes(data)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=broken(), raw=st.booleans())
def test_a_broken_picture_is_answered_or_refused(
    client: FlaskClient, data: bytes, raw: bool
) -> None:
    url = f"{LENET}?preprocess={'raw' if raw else 'auto'}"
    response = client.post(url, data=data, content_type="image/png")
    assert response.status_code in (200, 400, 413, 415, 422), response.text


@pytest.mark.parametrize("kind", OTHERS)
def test_a_format_that_is_not_on_the_list_is_refused(client: FlaskClient, kind: str) -> None:
    response = client.post(LENET, data=OTHERS[kind], content_type="image/png")
    refused(response, 415, "not_an_image")


def test_the_list_is_what_is_read(client: FlaskClient) -> None:
    for kind in ACCEPTED:
        response = client.post(LENET, data=WRITTEN[kind], content_type="image/png")
        assert response.status_code in (200, 422), (kind, response.text)


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_picture_and_no_fault_of_the_service(client: FlaskClient, seed: int) -> None:
    """Found by benchmarks/fuzz.py."""
    noise = np.random.default_rng(seed).random((30, 40)) < 0.5
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    refused(client.post(LENET, data=buffer.getvalue(), content_type="image/png"), 422, "no_content")
