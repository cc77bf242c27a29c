"""What people do to a running service, with curl and requests; and whether it survives."""

import base64
import io
import json
import socket
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from tests.e2e.conftest import PATIENCE, ROOT, Service

SAMPLES = ROOT / "app" / "static" / "samples" / "mnist"
SEVEN = (SAMPLES / "seven.png").read_bytes()
LENET = "/api/mnist/lenet"


def curl(*arguments: str) -> Any:
    """curl's answer as JSON."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", *arguments]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.open(SAMPLES / "seven.png").convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A small PNG whose header claims 3.6 billion pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiny(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def file(data: bytes, name: str = "image.png") -> dict[str, Any]:
    return {"files": {"file": (name, data)}}


BAD_INPUT: dict[str, tuple[str, dict[str, Any], int]] = {
    "neither file nor sample": ("", {}, 400),
    "text named png": ("", file(b"This is a text.\n"), 415),
    "an empty file": ("", file(b""), 400),
    "a truncated png": ("", file(SEVEN[: len(SEVEN) // 2]), 400),
    "a truncated jpeg": ("", file(jpeg()[: len(jpeg()) // 2]), 400),
    "0x0": ("", file(bomb(0, 0)), 400),
    "1x1": ("", file(tiny(1)), 422),
    "nothing but black": ("", file(tiny(64)), 422),
    "a decompression bomb": ("", file(bomb()), 413),
    "50 MB in a form": ("", file(bytes(50_000_000)), 413),
    "50 MB raw": (
        "",
        {"data": bytes(50_000_000), "headers": {"Content-Type": "image/png"}},
        413,
    ),
    "50 MB of JSON": (
        "",
        {"data": bytes(50_000_000), "headers": {"Content-Type": "application/json"}},
        413,
    ),
    "129 images": ("", {"json": {"images": ["eA=="] * 129}}, 413),
    "a wrong field name": ("", {"files": {"image": ("a.png", SEVEN)}}, 400),
    "bad base64": ("", {"json": {"image": "%%%"}}, 400),
    "bad JSON": ("", {"data": "{", "headers": {"Content-Type": "application/json"}}, 400),
    "top -1": ("?top=-1", file(SEVEN), 400),
    "top none": ("?top=none", file(SEVEN), 400),
    "rule none": ("?rule=none", file(SEVEN), 404),
    "preprocess none": ("?preprocess=none", file(SEVEN), 400),
    "an unknown parameter": ("?nonsense=1", file(SEVEN), 400),
    "text": ("", {"data": "seven", "headers": {"Content-Type": "text/plain"}}, 415),
}


@pytest.mark.parametrize("case", BAD_INPUT)
@pytest.mark.parametrize("url", [LENET, "/predict"])
def test_bad_input_is_refused_in_one_shape_and_the_workers_live(
    service: Service, case: str, url: str
) -> None:
    query, request, status = BAD_INPUT[case]
    workers = service.workers
    response = requests.post(f"{service.url}{url}{query}", timeout=PATIENCE, **request)
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    error = response.json()
    assert error["message"]
    assert error["code"]
    assert "Traceback" not in response.text
    spec = requests.get(f"{service.url}/swagger.json", timeout=PATIENCE).json()
    assert str(status) in spec["paths"][url]["post"]["responses"]
    good = requests.post(service.url + url, timeout=PATIENCE, **file(SEVEN))
    assert good.json()["predictions"][0]["label"] == "7"
    assert workers <= service.workers  # none was lost; a start may still be forking the last


def test_every_route_answers(service: Service) -> None:
    routes = ("/", "/swagger.json", "/api/models", LENET, "/health/live", "/health/ready")
    for route in routes:
        assert requests.get(service.url + route, timeout=PATIENCE).status_code == 200, route
    page = requests.get(service.url + "/", timeout=PATIENCE).text
    scripts = [line.split('"')[1] for line in page.splitlines() if "<script src=" in line]
    for script in scripts:
        assert requests.get(service.url + script, timeout=PATIENCE).status_code == 200
    assert scripts


def test_curl_uploads_a_file(service: Service) -> None:
    answer = curl("-F", f"file=@{SAMPLES / 'seven.png'}", f"{service.url}/predict")
    assert answer["predictions"][0]["label"] == "7"
    assert answer["predictions"][0]["filename"] == "seven.png"


def test_curl_uploads_several_files(service: Service) -> None:
    files = [f"file=@{SAMPLES / name}.png" for name in ("seven", "three")]
    answer = curl("-F", files[0], "-F", files[1], service.url + LENET)
    assert [entry["label"] for entry in answer["predictions"]] == ["7", "3"]


def test_curl_sends_a_raw_body_and_a_chunked_one(service: Service) -> None:
    raw = ["--data-binary", f"@{SAMPLES / 'seven.png'}", "-H", "Content-Type: image/png"]
    for more in ([], ["-H", "Transfer-Encoding: chunked"]):
        answer = curl(*raw, *more, service.url + LENET)
        assert answer["predictions"][0]["label"] == "7"


def test_curl_sends_base64(service: Service) -> None:
    body = json.dumps({"image": base64.b64encode(SEVEN).decode()})
    answer = curl("--json", body, service.url + LENET)
    assert answer["predictions"][0]["label"] == "7"


def test_curl_names_a_sample(service: Service) -> None:
    answer = curl("-F", "sample=seven", service.url + LENET)
    assert answer["predictions"][0]["label"] == "7"


def test_curl_compares_the_architectures(service: Service) -> None:
    answer = curl("-F", f"file=@{SAMPLES / 'seven.png'}", f"{service.url}/api/mnist/compare")
    assert {result["prediction"]["label"] for result in answer["results"]} == {"7"}
    assert answer["agree"] is True


@pytest.mark.parametrize("way", ["form", "raw", "chunked", "nowhere"])
def test_a_large_upload_by_curl_is_answered_and_not_reset(
    service: Service, tmp_path: Path, way: str
) -> None:
    big = tmp_path / "big.png"
    with big.open("wb") as stream:
        stream.truncate(50_000_000)
    url = service.url + (LENET if way != "nowhere" else "/nowhere")
    raw = ["--data-binary", f"@{big}", "-H", "Content-Type: image/png"]
    arguments = {
        "form": ["-F", f"file=@{big}"],
        "raw": raw,
        "chunked": [*raw, "-H", "Transfer-Encoding: chunked"],
        "nowhere": ["-F", f"file=@{big}"],
    }[way]
    assert curl(*arguments, url)["code"] == "request_too_large"


def test_unknown_urls_and_methods_are_json(service: Service) -> None:
    for method, url, status in (
        ("GET", "/nowhere", 404),
        ("GET", "/api/no/net", 404),
        ("PUT", LENET, 405),
        ("GET", "/predict", 405),
    ):
        response = requests.request(method, service.url + url, timeout=PATIENCE)
        assert response.status_code == status
        assert {"message", "code"} <= set(response.json())


@pytest.mark.parametrize(
    ("request_line", "status"),
    [("NOT HTTP", 400), (f"GET /{'x' * 9000} HTTP/1.1", 414), ("GET / HTTP/9.9", 400)],
)
def test_what_is_not_http_is_answered_in_the_one_shape(
    service: Service, request_line: str, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as client:
        client.sendall(f"{request_line}\r\nHost: x\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert {"message", "code"} == set(json.loads(body))


def test_a_lost_client_costs_nobody_a_worker(service: Service) -> None:
    workers = service.workers
    for sent in (
        b"",
        b"POST /predict HTTP/1.1\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: image/png\r\nContent-Length: 1000\r\n\r\nabc",
    ):
        with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as client:
            client.sendall(sent)
    assert curl("-F", "sample=seven", service.url + LENET)["predictions"][0]["label"] == "7"
    assert workers <= service.workers  # none was lost; a start may still be forking the last


def test_a_connection_is_kept_for_further_requests_and_ends_with_a_refusal(
    service: Service,
) -> None:
    with requests.Session() as session:
        for _ in range(3):
            answer = session.post(service.url + LENET, timeout=PATIENCE, **file(SEVEN))
            assert answer.json()["predictions"][0]["label"] == "7"
            assert answer.headers["Connection"] == "keep-alive"
        answer = session.post(service.url + LENET, timeout=PATIENCE, **file(bytes(50_000_000)))
        assert (answer.status_code, answer.headers["Connection"]) == (413, "close")
        answer = session.post(service.url + LENET, timeout=PATIENCE, **file(SEVEN))
        assert answer.status_code == 200
