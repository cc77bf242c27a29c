"""Requests for a classification, right, wrong and odd, as the bytes that clients send."""

import base64
import gzip
import io
import json
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.e2e.digits import MODEL, SAMPLES, VERSION

BOUNDARY = "0123456789abcdef"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
SEVEN = (SAMPLES / "seven.png").read_bytes()
PATHS = ("/predict", "/api/mnist/lenet", "/api/fashion-mnist/lenet", "/api/cifar10/lenet")
INFER = f"/v2/models/{MODEL}/infer"


def request(
    path: str,
    body: bytes,
    kind: str | None,
    *more: str,
    method: str = "POST",
    protocol: str = "1.1",
) -> bytes:
    """Return a request as most programs write it, with `more` header lines."""
    lines = [f"{method} {path} HTTP/{protocol}", "Host: localhost:5000"]
    lines += [f"Content-Type: {kind}"] * (kind is not None)
    lines += [f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def part(name: str, data: bytes, filename: str | None = None, kind: str = "image/png") -> bytes:
    file = f'; filename="{filename}"\r\nContent-Type: {kind}' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def picture(kind: str = "PNG", mode: str = "L", side: int = 28, ink: bool = True) -> bytes:
    """Return a stroke on black, or an even picture without `ink`."""
    pixels = np.zeros((side, side), np.uint8)
    if ink:
        pixels[side // 7 : -side // 7, side * 13 // 28 : side * 16 // 28] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


USUAL = form(part("file", SEVEN, "seven.png"))


def of_all_kinds() -> list[bytes]:
    """Return some hundred requests."""
    return [*forms(), *other_bodies(), *queries(), *heads(), *methods_and_paths(), *inferences()]


def forms() -> Iterator[bytes]:
    small, colour = picture(), picture("JPEG", "RGB", 64)
    bodies = {
        "usual": USUAL,
        "small": form(part("file", small, "a.png")),
        "colour": form(part("file", colour, "b.jpg", "image/jpeg")),
        "two": form(part("file", small, "a.png"), part("file", SEVEN, "b.png")),
        "sample": form(part("sample", b"three")),
        "unknown sample": form(part("sample", b"eleven")),
        "both": form(part("file", small, "a.png"), part("sample", b"three")),
        "no choice": form(part("file", b"", ""), part("sample", b"three")),
        "wrong field": form(part("image", small, "a.png")),
        "no file": form(part("file", small)),
        "blank": form(part("file", picture(ink=False), "blank.png")),
        "one of two": form(part("file", small, "a.png"), part("file", b"no picture", "b.png")),
        "cut off": USUAL[:-4],
        "no parts": form(),
        "nothing": b"",
        "name": form(part("file", small, "größe \u4e00.png")),
        "long name": form(part("file", small, 300 * "x" + ".png")),
        "broken": form(part("file", SEVEN[:200], "broken.png")),
        "text": form(part("file", b"hello", "hello.png")),
        "empty": form(part("file", b"", "empty.png")),
    }
    for body in bodies.values():
        for path in PATHS:
            yield request(path, body, FORM)
    for kind in (
        f'multipart/form-data; boundary="{BOUNDARY}"',
        f"multipart/form-data;boundary={BOUNDARY}; charset=utf-8",
        f"Multipart/Form-Data; boundary={BOUNDARY}",
        "multipart/form-data",
        "multipart/form-data; boundary=another",
        "image/png",
    ):
        yield request("/predict", USUAL, kind)


def other_bodies() -> Iterator[bytes]:
    text = base64.b64encode(SEVEN).decode()
    raw = {
        "image/png": (SEVEN, picture(), b"", b"no picture", SEVEN[:100], picture("GIF")),
        "application/octet-stream": (SEVEN, picture("BMP"), b""),
        "application/json": (
            json.dumps({"image": text}).encode(),
            json.dumps({"images": [text, text]}).encode(),
            json.dumps({"images": [text, "!"]}).encode(),
            json.dumps({"image": f"data:image/png;base64,{text}"}).encode(),
            json.dumps({"images": []}).encode(),
            b'{"image": 1}',
            b"[]",
            b"{",
            b"",
            b"\xef\xbb\xbf{}",
            b'{"images": [' + 3000 * b'"",' + b'""]}',
        ),
        "application/x-www-form-urlencoded": (b"sample=three", b"x=1", b"{}", SEVEN, b""),
        "text/plain": (b"hello", b""),
        "image/svg+xml": (b"<svg/>",),
    }
    for kind, bodies in raw.items():
        for body in bodies:
            yield request("/predict", body, kind)
            yield request("/api/mnist/lenet?partial=true", body, kind)
    yield request("/predict", SEVEN, None)
    yield request("/predict", b"", None)
    yield b"POST /predict HTTP/1.1\r\nHost: x\r\n\r\n"


def queries() -> Iterator[bytes]:
    for query in (
        *("rule=backprop", "rule=nonsense", "rule=metaplastic&version=" + VERSION, "version=999"),
        *(
            "version=x",
            "top=1",
            "top=10",
            "top=11",
            "top=",
            "top=%31",
            "top=1&top=2",
            "preprocess=raw",
        ),
        *("preprocess=none", "prepared=true", "prepared=yes", "partial=true", "digits=several"),
        *(
            "digits=several&preprocess=raw",
            "sample=three",
            "sample=x",
            "unknown=1",
            "%ff=1",
            "&&",
            "=",
        ),
        *("", "a=b?c", "top=2#part", "top=2;rule=backprop", "rule=%C3%A9", "top=+2", "x[]=1"),
    ):
        yield request(f"/api/mnist/lenet?{query}", USUAL, FORM)
    yield request("/api/cifar10/lenet?digits=several", USUAL, FORM)
    yield request("/predict?sample=three", b"", None)
    yield request("/predict?" + 5000 * "x", USUAL, FORM)


def heads() -> Iterator[bytes]:
    for line in (
        *("Connection: close", "Connection: keep-alive", "Connection: Keep-Alive", "connection: x"),
        *(
            "Connection: close, x",
            "X-Request-ID: mine-1",
            "X-Request-ID: not good",
            "X-Request-ID: ",
        ),
        *("Origin: https://example.org", "Origin: https://elsewhere.org", "Cookie: a=b; c=d"),
        *("X-API-Key: nonsense", "Authorization: Bearer nonsense", "Authorization: Basic eDp5"),
        *(
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Proto: wss",
            "X-Forwarded-Host: there.example",
        ),
        *("X-Forwarded-Prefix: /vision", "X-Forwarded-Prefix: //evil", "X-Forwarded-Port: 81"),
        *(
            "Expect: 100-continue",
            "Expect: more",
            "Upgrade: h2c",
            "TE: trailers",
            "Accept: text/html",
        ),
        *("Content-Encoding: gzip", "Content-Encoding: identity", "Content-Encoding: br"),
        *(
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: gzip",
            "Content-Length: 5",
            "Host: other",
        ),
        *("Content-Type: image/png", "Bad_Name: 1", "No colon", "Spaced : 1", "Empty:", "Tab:\tx"),
        *(
            "Tight:x",
            "Trailing: x  ",
            "Latin: \xe9",
            "Control: \x01",
            "X-HTTP-Method-Override: PUT",
        ),
        *(f"Long: {9000 * 'x'}", f"Longish: {4000 * 'x'}", " folded", "Range: bytes=0-9"),
    ):
        yield request("/predict", USUAL, FORM, line)
    yield request("/predict", USUAL, FORM, *(f"X-{number}: 1" for number in range(120)))
    yield request("/predict", gzip.compress(USUAL), FORM, "Content-Encoding: gzip")
    yield request("/predict", USUAL, FORM, protocol="1.0")
    yield request("/predict", USUAL, FORM, "Connection: keep-alive", protocol="1.0")
    yield request("/predict", USUAL, FORM, protocol="2.0")
    for host in (
        "",
        "[::1]:5000",
        "EXAMPLE.org",
        "example.org:80",
        "a b",
        "xn--bcher-kva.example",
        "a/b",
        "a..b",
        "a.",
        "a:0",
        64 * "a",
        "xn--0",
    ):
        yield request("/predict", b"x", FORM).replace(
            b"Host: localhost:5000", f"Host: {host}".encode()
        )
    for more in ((), ("X-Forwarded-Host: there.example",)):
        asked = request("/predict", USUAL, FORM, *more)
        yield asked.replace(b"Host: localhost:5000\r\n", b"")
    yield request("/predict", USUAL, FORM, "X-Forwarded-Host: a..b")
    yield request("/predict", b"", None).replace(b"localhost:5000", b"xn--0")
    yield request("/predict", USUAL, FORM).replace(b"Content-Length: ", b"Content-Length: 00")
    yield request("/predict", b"", FORM).replace(b"Content-Length: 0", b"Content-Length: -1")
    yield request("/predict", b"", FORM).replace(
        b"Content-Length: 0", b"Content-Length: 99999999999"
    )
    yield request("/predict", b"", FORM).replace(b"Content-Length: 0", b"Content-Length: x")
    yield request("/predict", USUAL, FORM).replace(b"\r\n", b"\n")
    yield request("/predict", USUAL, FORM).replace(b"Content-Length", b"content-length")
    yield request("/predict", USUAL, FORM).replace(b"POST /predict", b"POST  /predict")
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(USUAL), USUAL)
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n"
    yield f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks


def methods_and_paths() -> Iterator[bytes]:
    for method in ("GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "post", "POSTX"):
        for path in ("/predict", "/api/mnist/lenet", INFER):
            yield request(path, b"", None, method=method)
    for path in (
        *(
            "/predict/",
            "//predict",
            "/./predict",
            "/Predict",
            "/predict%20",
            "/%70redict",
            "/predict;x",
        ),
        *(
            "/api/mnist",
            "/api/mnist/lenet/",
            "/api//mnist/lenet",
            "/api/mnist/none",
            "/api/x/lenet",
        ),
        *(
            "http://localhost:5000/predict",
            "*",
            "/api/mnist/lenet/explain",
            "/predict\x7f",
            "predict",
        ),
        *("/api/mnist/LENET", "/v2/models/none/infer", f"/v2/models/{MODEL}/versions/99/infer"),
    ):
        yield request(path, USUAL, FORM)


def inferences() -> Iterator[bytes]:
    pixels = np.frombuffer(picture("BMP")[-784:], np.uint8).tobytes()
    one: dict[str, object] = {"name": "images", "shape": [1, 28, 28], "datatype": "UINT8"}
    blob = {**one, "parameters": {"binary_data_size": 784}}
    floats = struct.pack("<784f", *(value / 255 for value in pixels))

    def binary(content: object, data: bytes, path: str = INFER, length: int | None = None) -> bytes:
        head = json.dumps(content).encode()
        size = len(head) if length is None else length
        line = f"Inference-Header-Content-Length: {size}"
        return request(path, head + data, "application/octet-stream", line)

    yield binary({"inputs": [blob]}, pixels)
    yield binary({"inputs": [blob], "id": "mine"}, pixels)
    yield binary({"inputs": [blob], "parameters": {"binary_data_output": True}}, pixels)
    wanted = {"name": "probabilities", "parameters": {"classification": 2, "binary_data": True}}
    yield binary({"inputs": [blob], "outputs": [wanted]}, pixels)
    yield binary({"inputs": [blob], "outputs": [{"name": "nothing"}]}, pixels)
    yield binary({"inputs": [blob]}, pixels, f"/v2/models/{MODEL}/versions/{VERSION}/infer")
    yield binary({"inputs": [blob]}, pixels, INFER + "?unknown=1")
    yield binary({"inputs": [blob]}, pixels[:-1])
    yield binary({"inputs": [blob]}, pixels, length=5)
    yield binary({"inputs": [blob]}, pixels, length=10**6)
    yield binary({"inputs": [blob]}, b"")
    yield binary({"inputs": [{**blob, "shape": [28, 28]}]}, pixels)
    yield binary({"inputs": [{**blob, "datatype": "INT8"}]}, pixels)
    yield request(INFER, floats, "application/octet-stream", "Inference-Header-Content-Length: 0")
    yield request(INFER, floats, "application/octet-stream", "Inference-Header-Content-Length: x")
    yield request(INFER, json.dumps({"inputs": [{**one, "data": list(pixels)}]}).encode(), None)
    yield request(INFER, json.dumps({"inputs": [{**one, "data": [1, 2]}]}).encode(), "text/plain")
    yield request(INFER, b"{}", "application/json")
    yield request(INFER, b"", "application/json")
    yield request(INFER, b"{", "application/json", "Content-Encoding: gzip")
