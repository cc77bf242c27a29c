"""Measure the time of one request by stage: read, decode, prepare, infer, answer.

    python -m benchmarks.stages [--requests 3000] [--model mnist/lenet] [--image FILE]

There is one process and no port. An upload as a form comes through a pair of sockets, and the
functions of a worker (app/server/gateway.py) send the answer back. Each stage of the request is
timed. (A stage alone in a loop takes a third of the time, because caches and branch predictors then
serve nothing else.)

The output is the median CPU time of this process in microseconds. Other processes disturb CPU time
less than wall-clock time. There are two ways: direct (app/server/direct.py), and through gunicorn's
parser, Flask and its routing. `dispatch` is the time outside all stages: the socket, HTTP, the
caller's options, metrics and the log line. The last line is an empty route of a Flask application,
through gunicorn's parser. The three take turns of 30 requests, of which the first 5 do not count.
In every second turn only the whole request is timed, since each clock takes a microsecond itself.
"""

import argparse
import io
import math
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from flask import Flask
from gunicorn.config import Config
from PIL import Image

from app import create_app
from app.api import classify
from app.catalogue.load import load_catalogue
from app.images import decode as images
from app.images import sandbox
from app.predict import classify as classification
from app.predict import recognition
from app.runtime import use_runtime_folder
from app.server import gateway
from app.server.budget import Budget
from app.server.connection import Connection
from app.settings import Settings
from benchmarks.serving import Body, form_of, log_lines_thrown_away

SAMPLE = Path(__file__).parent.parent / "app/static/samples/mnist/seven.png"
STAGES = ("read", "decode", "prepare", "infer", "answer")
TURN, WARM_UP = 30, 5  # requests of a turn; those of them that are not counted


def like_the_data_set(endpoint: str, weights: Path | None = None) -> bytes:
    """Return a PNG with the input size of the endpoint: a seven as in MNIST, or coloured noise."""
    settings = Settings(weights=weights) if weights else Settings()
    target = load_catalogue(settings).endpoints[endpoint].find().card.input
    if target.channels == 3:
        noise = np.random.default_rng(0).integers(0, 256, (target.height, target.width, 3))
        picture = Image.fromarray(noise.astype(np.uint8))
    else:
        seven = images.decode(SAMPLE.read_bytes(), max_pixels=10**7, smallest=(28, 28))
        picture = Image.fromarray(
            (images.prepare(seven, target).first.pixels[..., 0] * 255).astype("u1")
        )
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def environment(path: str, body: bytes, kind: str) -> dict[str, object]:
    """Return the WSGI environment that gunicorn passes to the application."""
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "5000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1:5000",
        "CONTENT_TYPE": kind,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.version": (1, 0),
    }


class Clock:
    """Add up the CPU time of the functions that it wraps, by stage, or that of whole requests."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.whole = False  # whether whole requests are timed

    def around(self, stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            if self.whole:
                return work(*arguments, **options)
            started = time.thread_time_ns()
            try:
                return work(*arguments, **options)
            finally:
                self.seconds[stage] += (time.thread_time_ns() - started) / 1e9

        return timed

    def put_on_the_service(self) -> None:
        """Wrap the function of each stage, which the service looks up again for every request."""
        for module, name, stage in (
            (classify, "read_uploads", "read"),
            (sandbox, "decode", "decode"),
            (classification, "prepare", "prepare"),
            (recognition, "_all", "prepare"),
            (recognition, "infer", "infer"),
            (classification, "prediction_of", "answer"),
            (classify, "content_of", "answer"),
        ):
            setattr(module, name, self.around(stage, getattr(module, name)))


class Asked:
    """An application in a worker of ours, without a port: asked through a pair of sockets."""

    def __init__(self, application: Flask, path: str, body: Body, direct: Any = None) -> None:
        """Ask `path` for an answer to `body`. `direct` makes the direct path; None leaves it out.

        Of a worker, here is what app/server/gateway.py reads.
        """
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:5000\r\nContent-Type: {body.kind}\r\n"
            f"Content-Length: {len(body.data)}\r\n\r\n"
        )
        self.request = head.encode() + body.data
        self.worker = SimpleNamespace(
            app=SimpleNamespace(application=application),
            cfg=Config(),
            closes=lambda _: False,
            server_address=("127.0.0.1", 5000),
            wsgi=application,
        )
        nothing = SimpleNamespace(answer=lambda _: False)
        self.worker.direct = direct(self.worker) if direct else nothing
        self.client, ours = socket.socketpair()
        self.connection = Connection(ours, ("127.0.0.1", 1), 1 << 25, Budget(1 << 27))

    def answer(self) -> None:
        """Do what a worker does for a request that has come."""
        self.connection.receive(1 << 18)
        if not self.connection.complete:
            raise RuntimeError("the request is not whole")
        gateway.answer(self.connection, self.worker)
        self.connection.forget_request()
        self.connection.flush()


def service_asked(
    name: str, picture: Path | None = None, weights: Path | None = None, *, direct: bool = True
) -> Asked:
    """Return a classification of one upload by the endpoint `name`, directly or through Flask."""
    # Not before the folder is named in which prometheus-client counts, as in the service.
    from app.server.direct import Direct

    application = create_app(Settings(weights=weights) if weights else Settings())
    data = picture.read_bytes() if picture else like_the_data_set(name, weights)
    return Asked(application, f"/api/{name}", form_of(data), Direct if direct else None)


def empty_route() -> Asked:
    """Return an upload to an empty route."""
    bare = Flask("empty")
    bare.add_url_rule("/empty", "empty", lambda: "ok", methods=["POST"])
    return Asked(bare, "/empty", form_of(like_the_data_set("mnist/lenet")))


def measure(
    clock: Clock, asked: Asked, took: dict[str, list[float]], *, counted: bool = True
) -> None:
    """Send one request, and add to `took` the microseconds of its stages, or those of the whole."""
    clock.seconds = dict.fromkeys(STAGES, 0.0)
    asked.client.sendall(asked.request)
    with log_lines_thrown_away():
        started = time.thread_time_ns()
        asked.answer()
        whole = (time.thread_time_ns() - started) / 1e9
    answer = asked.client.recv(65536)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(answer.decode())
    found = {"whole": whole} if clock.whole else clock.seconds
    for stage, seconds in found.items() if counted else ():
        took.setdefault(stage, []).append(1e6 * seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--model", default="mnist/lenet")
    parser.add_argument("--image", type=Path, help="classify this file")
    wanted = parser.parse_args()
    use_runtime_folder()
    clock = Clock()
    clock.put_on_the_service()
    ways = {
        "direct": service_asked(wanted.model, wanted.image),
        "through Flask": service_asked(wanted.model, wanted.image, direct=False),
        "empty": empty_route(),
    }
    took: dict[str, dict[str, list[float]]] = {name: {} for name in ways}
    for turn in range(2 + math.ceil(wanted.requests / (TURN - WARM_UP))):
        clock.whole = bool(turn % 2)
        for name, asked in ways.items():
            for number in range(TURN):
                measure(clock, asked, took[name], counted=turn > 1 and number >= WARM_UP)
    medians = {
        name: {stage: statistics.median(values) for stage, values in stages.items()}
        for name, stages in took.items()
    }
    empty = medians.pop("empty")["whole"]
    for found in medians.values():
        found["dispatch"] = found["whole"] - sum(found[stage] for stage in STAGES)
    print(f"| stage, microseconds of CPU | {' | '.join(medians)} |\n| --- | --- | --- |")
    for stage in ("dispatch", *STAGES, "whole"):
        print(f"| {stage} | {' | '.join(f'{found[stage]:.0f}' for found in medians.values())} |")
    ratios = " | ".join(f"{found['whole'] / empty:.2f}" for found in medians.values())
    print(f"| beside an empty Flask route ({empty:.0f}) | {ratios} |")


if __name__ == "__main__":
    main()
