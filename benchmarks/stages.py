"""Measure the time of one request by stage: read, decode, prepare, infer, answer.

    python -m benchmarks.stages [--requests 3000] [--model mnist/lenet] [--image FILE]

There is one process and no server. The application is called as a WSGI server calls it, with an
upload as a form, and each stage of the request is timed. (A stage alone in a loop takes a third of
the time, because caches and branch predictors then serve nothing else.)

The output is the median CPU time of this process in microseconds. Other processes disturb CPU time
less than wall-clock time. `dispatch` is the time outside all stages: Flask, its routing, the
caller's options, metrics and the log line. The last line is an empty route of a Flask application
without any of these. Both applications are called in turn.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flask import Flask
from PIL import Image
from urllib3.filepost import encode_multipart_formdata

from app import create_app
from app.api import classify
from app.catalogue.load import load_catalogue
from app.images import decode as images
from app.images import sandbox
from app.predict import classify as classification
from app.predict import recognition
from app.settings import Settings
from benchmarks.serving import log_lines_thrown_away

SAMPLE = Path(__file__).parent.parent / "app/static/samples/mnist/seven.png"
STAGES = ("read", "decode", "prepare", "infer", "answer")
WARM_UP = 100  # requests


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
    """Add up the CPU time of the functions that it wraps, by stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((*STAGES, "whole", "empty route"), 0.0)

    def around(self, stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
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
            (images, "prepare", "prepare"),
            (recognition, "_all", "prepare"),
            (recognition, "infer", "infer"),
            (classification, "prediction_of", "answer"),
            (classify, "answer", "answer"),
        ):
            setattr(module, name, self.around(stage, getattr(module, name)))


def requests_to_time(
    name: str, picture: Path | None, clock: Clock, weights: Path | None = None
) -> tuple[Callable[[], bytes], Callable[[], bytes]]:
    """Return two functions: classify one upload with the endpoint `name`, call an empty route."""
    application = create_app(Settings(weights=weights) if weights else Settings())
    bare = Flask("empty")
    bare.add_url_rule("/empty", "empty", lambda: "ok", methods=["POST"])

    endpoint = application.extensions["catalogue"].endpoints[name]
    data = picture.read_bytes() if picture else like_the_data_set(name, weights)
    body, kind = encode_multipart_formdata({"file": ("image.png", data)})

    def call(called: Flask, path: str) -> bytes:
        answered = called(environment(path, body, kind), lambda *_: lambda _: None)
        content = b"".join(answered)
        answered.close()
        return content

    whole = clock.around("whole", lambda: call(application, endpoint.path))
    return whole, clock.around("empty route", lambda: call(bare, "/empty"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--model", default="mnist/lenet")
    parser.add_argument("--image", type=Path, help="classify this file")
    wanted = parser.parse_args()
    clock = Clock()
    clock.put_on_the_service()
    whole, empty = requests_to_time(wanted.model, wanted.image, clock)
    took: dict[str, list[float]] = {stage: [] for stage in ("dispatch", *clock.seconds)}
    for turn in range(wanted.requests):
        clock.seconds = dict.fromkeys(clock.seconds, 0.0)
        with log_lines_thrown_away():
            assert b'"predictions"' in whole()
        empty()
        clock.seconds["dispatch"] = clock.seconds["whole"] - sum(
            clock.seconds[stage] for stage in STAGES
        )
        if turn >= WARM_UP:
            for stage, seconds in clock.seconds.items():
                took[stage].append(1e6 * seconds)
    median = {stage: statistics.median(values) for stage, values in took.items()}
    for stage, microseconds in median.items():
        print(f"{stage:12} {microseconds:7.0f} us  {microseconds / median['whole']:5.0%}")


if __name__ == "__main__":
    main()
