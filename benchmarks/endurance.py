"""Check that the memory of a worker does not grow over very many requests.

    python -m benchmarks.endurance [--requests 100000]

One worker classifies with every model of the repository, then answers 2,000 uploads. Four clients
send `--requests` more: PNGs with the input size of the network, photographs, JSON and broken files.
The output is the proportional memory of the worker before and after these.
"""

import argparse
import http.client
import io
import itertools
import json
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from benchmarks.serving import ROOT, Body, answers, children, form_of, memory_mib, service
from benchmarks.stages import like_the_data_set

CLIENTS = 4
SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()


def uploads() -> list[Body]:
    """Return twenty uploads: 17 small pictures, a photograph, empty JSON, a broken file."""
    usual = form_of(like_the_data_set("mnist/lenet"))
    noise = np.random.default_rng(0).integers(150, 256, (600, 800, 3), np.uint8)
    photograph = Image.fromarray(noise)
    photograph.paste(Image.open(io.BytesIO(SEVEN)).convert("RGB").resize((400, 400)), (200, 100))
    buffer = io.BytesIO()
    photograph.save(buffer, "JPEG")
    text = json.dumps({"images": []}).encode()
    return [
        *[usual] * 16,
        form_of(SEVEN),
        Body("image/jpeg", buffer.getvalue()),
        Body("application/json", text),
        Body("image/png", SEVEN[:60]),
    ]


def send(port: int, count: int) -> None:
    """Send `count` uploads by each client."""

    def run(_: int) -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for body in itertools.islice(itertools.cycle(uploads()), count):
            client.request("POST", "/predict", body.data, {"Content-Type": body.kind})
            response = client.getresponse()
            response.read()
            assert response.status < 500, response.status

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(run, range(CLIENTS)))  # raises the exception of a client


def ask_every_model(url: str) -> int:
    with urllib.request.urlopen(f"{url}/api/models") as response:
        models = json.load(response)["models"]
    for model in models:
        choice = f"rule={model['rule']}&version={model['version']}"
        assert answers(f"{url}{model['endpoint']}?{choice}", Body("image/png", SEVEN))
    return len(models)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000)
    wanted = parser.parse_args()
    with service(workers=1) as (process, url):
        (worker,) = children(process)
        port = urllib.parse.urlsplit(url).port
        models = ask_every_model(url)
        send(port, 2000 // CLIENTS)
        before, started = memory_mib(worker), time.perf_counter()
        send(port, wanted.requests // CLIENTS)
        took, after = time.perf_counter() - started, memory_mib(worker)
    print(
        f"{models} models; {before:.1f} MiB before, {after:.1f} MiB after {wanted.requests} "
        f"requests in {took:.0f} s: {after / before - 1:+.1%}"
    )


if __name__ == "__main__":
    main()
