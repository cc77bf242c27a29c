"""What a caller sends has bounds, whatever it is: the process that decodes it may die, not ours."""

import base64
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from app.errors import RequestError
from app.images import decode as images
from app.images import sandbox
from app.images.decode import HEIC_IS_READ, Picture
from app.images.sandbox import Limits
from app.images.structure import is_simple
from app.images.styles import Reading
from models.cards import ImageInput
from scripts.samples.digits import draw_digit
from tests.app import attacks
from tests.app.asking import LENET, only_prediction, refused

DIGIT = ImageInput(28, 28, 1, "digit", (0.1307,), (0.3081,))
GARMENT = ImageInput(28, 28, 1, "garment", (0.286,), (0.353,))
PHOTO = ImageInput(32, 32, 3, "photo", (0.5,) * 3, (0.25,) * 3)
USUAL = Limits(pixels=50_000_000, seconds=20, wall=60, mebibytes=300)
ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(data: bytes, target: ImageInput = DIGIT, limits: Limits = USUAL, **how: bool) -> Reading:
    picture = sandbox.decode(data, target, limits, raw=how.get("raw", False))
    return images.prepare(picture, target, **how).first


def refusal(data: bytes, limits: Limits) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(data, limits=limits)
    return caught.value


@pytest.fixture(scope="module")
def small() -> bytes:
    """A GIF, which is decoded apart."""
    data = encode(draw_digit(7), "GIF")
    assert not is_simple(data)
    return data


@pytest.fixture(scope="module")
def slow() -> bytes:
    """49 megapixels, which take some tenths of a second."""
    return encode(Image.effect_noise((700, 700), 90).resize((7000, 7000), 0), "GIF")


# Each attack is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("name", attacks.PICTURES)
def test_a_picture_that_is_dear_to_read_is_refused(client: FlaskClient, name: str) -> None:
    response = client.post(LENET, data=attacks.PICTURES[name], content_type="image/png")
    error = refused(response, 400, "unreadable_image")
    assert "damaged" not in error["message"]  # it was not even tried


# The helper's own limits -----------------------------------------------------------------------


def test_a_picture_may_take_so_much_time(slow: bytes, small: bytes) -> None:
    error = refusal(slow, Limits(USUAL.pixels, 0.05, USUAL.wall, USUAL.mebibytes))
    assert (error.status, error.code) == (413, "too_much_work")
    assert read(small).pixels.max() == 1


def test_a_picture_may_take_so_long_on_the_clock(slow: bytes, small: bytes) -> None:
    error = refusal(slow, Limits(USUAL.pixels, USUAL.seconds, 0.05, USUAL.mebibytes))
    assert (error.status, error.code) == (413, "too_much_work")
    assert read(small).pixels.max() == 1


@linux
def test_a_picture_may_take_so_much_memory(small: bytes) -> None:
    data = encode(Image.new("RGBA", (7000, 7000)), "PNG")
    error = refusal(data, Limits(USUAL.pixels, USUAL.seconds, USUAL.wall, 64))
    assert (error.status, error.code) == (413, "too_much_work")
    assert "memory" in error.message
    assert read(small).pixels.max() == 1


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_what_the_decoder_needs_beyond_the_picture_counts_too(kind: str) -> None:
    data = encode(Image.new("RGB", (2500, 2500)), kind)
    error = refusal(data, Limits(USUAL.pixels, USUAL.seconds, USUAL.wall, 64))
    assert (error.status, error.code) == (413, "too_many_pixels")


def test_the_images_of_a_request_share_its_time(make_client: object, put_model: object) -> None:
    put_model()  # type: ignore[operator]
    client = make_client(max_work=1)  # type: ignore[operator]
    one = encode(draw_digit(7, (7000, 7000)).convert("1"), "PNG")
    sent = {"images": [base64.b64encode(one).decode()] * 128}
    error = refused(client.post(LENET, json=sent), 413, "too_much_work")
    assert error["index"] > 0


@linux
@pytest.mark.parametrize(
    ("kind", "mode", "target"),
    [
        ("PNG", "RGBA", PHOTO),
        ("PNG", "RGBA", GARMENT),
        ("PNG", "I;16", DIGIT),
        ("TIFF", "RGB", PHOTO),
        ("GIF", "P", GARMENT),
        ("BMP", "L", DIGIT),
        ("PPM", "L", PHOTO),
        ("JPEG", "RGB", DIGIT),
    ],
)
def test_fifty_megapixels_fit_into_the_usual_limits(
    kind: str, mode: str, target: ImageInput
) -> None:
    marked = Image.new("L", (7060, 7060))
    marked.paste(255, (3000, 2000, 4000, 5000))
    wide = Image.fromarray(np.asarray(marked, np.uint16) * 257) if mode == "I;16" else marked
    picture = wide.convert(mode)
    data = encode(picture, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    assert read(data, target).pixels.shape == (target.height, target.width, target.channels)


# A helper that dies ----------------------------------------------------------------------------


def child_of(pid: int) -> int:
    """The one process that another has started."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.001)  # between two looks
    raise AssertionError("there is none")


def ended(pid: int) -> bool:
    """Whether a process is gone, or waits only to be noticed by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while not ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.005)  # between two looks


@pytest.fixture
def nursery(small: bytes) -> Iterator[int]:
    """The process id of a nursery that works."""
    read(small)
    assert sandbox._nursery
    yield sandbox._nursery.pid
    assert read(small).pixels.max() == 1


@linux
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_decoder_that_crashes_twice_costs_its_own_picture(
    nursery: int, slow: bytes, number: signal.Signals
) -> None:
    with ThreadPoolExecutor(1) as pool:
        helper = child_of(nursery)
        before = time_of(helper)
        answer = pool.submit(refusal, slow, USUAL)
        kill_at_work(helper, before, number)
        helper = other_child_of(nursery, helper)
        kill_at_work(helper, 0, number)
        error = answer.result()
    expected = (413, "too_much_work") if number == signal.SIGKILL else (422, "decoder_crashed")
    assert (error.status, error.code) == expected
    assert child_of(nursery) != helper


@linux
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_picture_whose_decoder_was_killed_is_tried_once_more(
    nursery: int, slow: bytes, number: signal.Signals
) -> None:
    with ThreadPoolExecutor(1) as pool:
        helper = child_of(nursery)
        before = time_of(helper)
        answer = pool.submit(sandbox.decode, slow, DIGIT, USUAL, raw=False)
        kill_at_work(helper, before, number)
        assert answer.result().size == (7000, 7000)
    assert child_of(nursery) != helper


def time_of(pid: int) -> int:
    """The processor time that a process has spent, in ticks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def kill_at_work(pid: int, before: int, number: signal.Signals) -> None:
    while time_of(pid) == before:
        time.sleep(0.001)  # between two looks
    os.kill(pid, number)


def other_child_of(pid: int, former: int) -> int:
    while (found := child_of(pid)) == former:
        time.sleep(0.001)  # between two looks
    return found


@linux
def test_a_stopped_decoder_costs_a_request_its_time_once(
    nursery: int, make_client: object, put_model: object, small: bytes
) -> None:
    put_model()  # type: ignore[operator]
    client = make_client(timeout=4)  # type: ignore[operator]
    os.kill(child_of(nursery), signal.SIGSTOP)
    sent = {"images": [base64.b64encode(small).decode()] * 8}
    began = time.monotonic()
    answer = client.post(f"{LENET}?partial=true", json=sent)
    assert time.monotonic() - began < 2 * 4  # each of the images its time would be 8 * 4
    errors = [one["error"] for one in answer.json["predictions"]]
    assert [error["code"] for error in errors] == ["too_much_work"] * 8
    assert all("of work" not in error["message"] for error in errors)


@linux
def test_a_helper_that_dies_at_rest_costs_nobody_anything(nursery: int, small: bytes) -> None:
    os.kill(child_of(nursery), signal.SIGKILL)
    assert read(small).pixels.max() == 1


@linux
def test_without_its_nursery_a_process_starts_another(nursery: int, small: bytes) -> None:
    helper = child_of(nursery)
    os.kill(nursery, signal.SIGKILL)
    wait_until_gone(helper)  # the system ends it too
    assert read(small).pixels.max() == 1
    assert sandbox._nursery
    assert sandbox._nursery.pid != nursery


@linux
def test_nothing_is_left_of_a_process_that_has_ended() -> None:
    program = """
import io
from PIL import Image
from app.images import sandbox
from models.cards import ImageInput
data = io.BytesIO()
Image.new("L", (28, 28)).save(data, "GIF")
target = ImageInput(28, 28, 1, "photo", (), ())
sandbox.decode(data.getvalue(), target, sandbox.Limits(10**6, 5, 20, 100), raw=False)
nursery = sandbox._nursery.pid
print(nursery, open(f"/proc/{nursery}/task/{nursery}/children").read())
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for pid in map(int, done.stdout.split()):
        wait_until_gone(pid)


@linux
@pytest.mark.parametrize(
    "attempt",
    [
        "open('/tmp/confined', 'w')",
        "os.open('/tmp', os.O_RDWR | os.O_TMPFILE)",
        "socket.socket()",
        "os.execv(sys.executable, [sys.executable])",
        "os.kill(os.getppid(), 0)",
        "os.unlink('/tmp/confined')",
    ],
)
def test_a_decoder_that_is_taken_over_reaches_nothing(attempt: str) -> None:
    program = f"""
import os, socket, sys
from app.images.confinement import confine
confine()
open("README.md").close()
try:
    {attempt}
except PermissionError:
    print("refused")
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"


def test_several_threads_ask_one_after_the_other(small: bytes) -> None:
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: read(small).pixels.tobytes(), range(20)))
    assert len(set(told)) == 1
    assert threading.active_count() >= 1


# The same answers ------------------------------------------------------------------------------


def many_kinds() -> dict[str, bytes]:
    height, width = np.mgrid[:777, :1003]
    values = (230 + 20 * np.sin(width / 111) * np.cos(height / 60)).clip(0, 255)
    values[200:400, 300:360] = 5
    colours = np.stack((values, values * 0.7, 255 - values), -1).astype(np.uint8)
    colour, grey = Image.fromarray(colours), Image.fromarray(values.astype(np.uint8))
    clear = colour.convert("RGBA")
    clear.putalpha(Image.fromarray((width * 255 // 1003).astype(np.uint8)))
    files = {
        "webp": encode(colour, "WEBP"),
        "webp, clear": encode(clear, "WEBP"),
        "avif": encode(colour, "AVIF"),
        "gif, clear": encode(colour.quantize(16), "GIF", transparency=3),
        "png, large": encode(colour.resize((1600, 1300)), "PNG"),
        "png, 16 bits": encode(Image.fromarray(values.astype(np.uint16) * 200), "PNG"),
        "png, clear": encode(clear.resize((1600, 1300)), "PNG"),
        "tiff": encode(colour, "TIFF"),
        "tiff, float": encode(Image.fromarray((values / 300).astype(np.float32)), "TIFF"),
        "tiff, CMYK": encode(colour.convert("CMYK"), "TIFF"),
        "bmp, 1 bit": encode(grey.convert("1"), "BMP"),
        "ppm": encode(colour, "PPM"),
        "jpeg, progressive": encode(colour.resize((3000, 2000)), "JPEG", progressive=True),
        "gif, small": encode(draw_digit(3, (28, 28)), "GIF"),
    }
    if HEIC_IS_READ:
        files["heic"] = encode(colour, "HEIF")
    for turn in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        files[f"tiff, turned {turn}"] = encode(colour, "TIFF", exif=exif)
    return files


def told(picture: Picture, target: ImageInput, raw: bool) -> tuple[object, ...]:
    """What is made of a picture, or why nothing."""
    try:
        prepared = images.prepare(picture, target, raw=raw).first
    except RequestError as error:
        return error.code, error.message
    return prepared.pixels.tobytes(), prepared.steps


@pytest.mark.parametrize("target", [DIGIT, GARMENT, PHOTO], ids=lambda target: target.style)
def test_a_picture_is_the_same_whichever_process_decodes_it(target: ImageInput) -> None:
    for name, data in many_kinds().items():
        assert not is_simple(data), name
        for raw in (False, True):
            here = images.decode(
                data, max_pixels=USUAL.pixels, smallest=(target.height, target.width)
            )
            there = sandbox.decode(data, target, USUAL, raw=raw)
            assert here.size == there.size, name
            assert told(there, target, raw) == told(here, target, raw), name


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_small_picture_of_a_simple_kind_needs_no_other_process(kind: str) -> None:
    assert is_simple(encode(draw_digit(7, (900, 900)), kind))
    assert not is_simple(encode(draw_digit(7, (1100, 1000)), kind))


@pytest.mark.parametrize(
    "data",
    [
        encode(Image.new("L", (40, 40)), "PNG")[:-12] + 200 * attacks.png_chunk(b"tEXt", b"a\0b"),
        encode(Image.new("L", (40, 40)), "JPEG", progressive=True),
        encode(Image.new("L", (40, 40)), "JPEG")[:-2],
        encode(Image.fromarray(np.zeros((40, 40), np.uint16)), "PNG"),
    ],
    ids=["words", "progressive", "without end", "16 bits"],
)
def test_a_small_picture_of_another_kind_is_decoded_apart(data: bytes) -> None:
    assert not is_simple(data)


def test_a_jpeg_of_scans_without_end_is_not_simple() -> None:
    one = encode(draw_digit(7, (900, 900)), "JPEG")
    scan = one[one.index(b"\xff\xda") : -2]
    assert not is_simple(one[:-2] + 3 * scan[:20] + b"\xff\xd9")


# JSON and gzip ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", attacks.JSON)
def test_json_of_more_values_than_images_have_is_refused(client: FlaskClient, name: str) -> None:
    path, text = attacks.JSON[name]
    response = client.post(path, data=text, content_type="application/json")
    assert response.status_code == 413, response.text
    assert "The JSON holds up to" in response.text


@pytest.mark.parametrize("name", attacks.WIDE_JSON)
def test_long_json_beyond_ascii_is_refused(client: FlaskClient, name: str) -> None:
    path, text = attacks.WIDE_JSON[name]
    response = client.post(path, data=text, content_type="application/json")
    assert response.status_code == 413, response.text
    assert "beyond ASCII" in response.text


def test_short_json_beyond_ascii_is_read(client: FlaskClient) -> None:
    body = '{"image":"\u00e4\U0001f600"}'.encode()
    error = refused(
        client.post(LENET, data=body, content_type="application/json"), 400, "bad_base64"
    )
    assert "image" in error["message"]


@pytest.mark.parametrize("name", attacks.GZIP)
def test_a_body_of_many_joined_files_is_refused(client: FlaskClient, name: str) -> None:
    headers = {"Content-Encoding": "gzip"}
    response = client.post(
        LENET, data=attacks.GZIP[name], content_type="image/png", headers=headers
    )
    refused(response, 413, "too_many_members")


def test_what_is_refused_costs_the_next_caller_nothing(client: FlaskClient, seven: bytes) -> None:
    for data in (attacks.PICTURES["BMP with RLE8"], seven):
        response = client.post(LENET, data=data, content_type="image/png")
    assert only_prediction(response)["label"] == "7"
