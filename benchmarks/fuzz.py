"""Send much broken input to a running service. It must not answer 5xx or lose a worker.

    python -m benchmarks.fuzz [--inputs 50000] [--structures 40] [--seed 0] [--clients 4]

Of ten inputs, six are broken pictures of every format that Pillow writes. They are sent as the
body, in a form or as base64 in JSON. Two are broken forms, one is broken JSON, and one is a whole
HTTP request with changed bytes. The answers are counted by status.

Then files with an unusual structure (benchmarks/structures.py) are sent one after the other to a
service with one worker, `--structures` of each format. For each format, the most expensive file is
printed: seconds of processor time, and MiB of additional memory of the worker and its helper. The
memory is their private memory, sampled every few milliseconds, and the file between them.

The exit status is 1 if an answer was 5xx, if a worker died, or if a good picture cannot be read
afterwards.
"""

import argparse
import base64
import collections
import contextlib
import http.client
import io
import json
import random
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.serving import (
    ROOT,
    Body,
    answers,
    children,
    cpu_seconds,
    family,
    form_of,
    service,
)
from benchmarks.structures import FORMATS

SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F")
OPTIONS = ({}, {"progressive": True}, {"compression": "tiff_lzw"}, {"lossless": True})
URLS = ("/predict", "/api/mnist/lenet?preprocess=raw", "/api/mnist/compare")


def pictures() -> list[bytes]:
    """Return one picture of each format, mode and compression that Pillow can write."""
    Image.init()
    found = []
    picture = Image.radial_gradient("L").resize((40, 30))
    for kind in sorted(Image.SAVE):
        for mode in MODES:
            for options in OPTIONS:
                buffer = io.BytesIO()
                try:
                    picture.convert(mode).save(buffer, kind, **options)
                except (OSError, ValueError, KeyError, TypeError):
                    continue
                found.append(buffer.getvalue())
    return [*dict.fromkeys(found), SEVEN]


def break_it(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Return `data` after one to six random changes."""
    broken = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        place, length = chance.randint(0, len(broken)), chance.randint(0, 60)
        match chance.randrange(6):
            case 0:
                broken[place : place + 4] = chance.randbytes(4)
            case 1:
                broken[place : place + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff"))
            case 2:
                del broken[place : place + length]
            case 3:
                del broken[place:]
            case 4:
                broken[place:place] = broken[place : place + length] * chance.randint(1, 50)
            case 5:
                broken[place:] = chance.choice(others)[place:]
    return bytes(broken)


def requests_of(seed: int, count: int) -> Iterator[tuple[str, Body | bytes]]:
    """Yield URLs and bodies. Plain bytes are a whole HTTP request."""
    chance, good = random.Random(seed), pictures()
    for _ in range(count):
        url, data = chance.choice(URLS), break_it(chance.choice(good), chance, good)
        match chance.randrange(10):
            case 0 | 1:
                yield url, Body("image/png", data)
            case 2 | 3:
                yield url, form_of(data)
            case 4 | 5:
                text = json.dumps({"image": base64.b64encode(data).decode()})
                yield url, Body("application/json", text.encode())
            case 6 | 7:
                form = form_of(SEVEN)
                yield url, Body(form.kind, break_it(form.data, chance, good))
            case 8:
                text = json.dumps({"images": [base64.b64encode(SEVEN).decode()] * 2})
                yield url, Body("application/json", break_it(text.encode(), chance, good))
            case 9:
                form = form_of(SEVEN)
                head = (
                    f"POST {url} HTTP/1.1\r\nHost: x\r\nContent-Type: {form.kind}\r\n"
                    f"Content-Length: {len(form.data)}\r\nConnection: close\r\n\r\n"
                )
                broken = break_it(head.encode(), chance, [head.encode()])
                yield url, broken + form.data


def send_all(port: int, inputs: Iterator[tuple[str, Body | bytes]]) -> collections.Counter[str]:
    """Send all inputs and count the answers by status; "closed" means no answer."""
    seen: collections.Counter[str] = collections.Counter()
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for url, sent in inputs:
        if isinstance(sent, bytes):
            seen[_status(_raw(port, sent))] += 1
            continue
        try:
            client.request("POST", url, sent.data, {"Content-Type": sent.kind})
            response = client.getresponse()
            response.read()
            seen[str(response.status)] += 1
        except (OSError, http.client.HTTPException):
            seen["closed"] += 1
            client.close()
    return seen


def _raw(port: int, sent: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), 60) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))
    except OSError:
        return b""


def _status(answer: bytes) -> str:
    words = answer.split(b" ", 2)
    return words[1].decode() if len(words) > 1 else "closed"


def together(work: Callable[[int], collections.Counter[str]], clients: int) -> dict[str, int]:
    """Run `work` for each client in its own thread and return the sum of their counts."""
    total: collections.Counter[str] = collections.Counter()

    def run(number: int) -> None:
        total.update(work(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return dict(sorted(total.items()))


@dataclass(frozen=True)
class Cost:
    """The cost of one request."""

    seconds: float  # of processor time
    mebibytes: float
    status: str
    sent: int  # bytes


def own_memory(processes: list[int]) -> float:
    """Return the private memory of the processes in MiB."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1])
    return total / 1024


def cost_of(port: int, worker: int, path: str, headers: dict[str, str], data: bytes) -> Cost:
    """Send one request and measure its cost for the worker and its child processes."""
    before, idle = cpu_seconds(worker, ended=True), own_memory(family(worker))
    most, over = [idle], threading.Event()

    def sample() -> None:
        while not over.wait(0.003):
            most.append(own_memory(family(worker)))

    watcher = threading.Thread(target=sample)
    watcher.start()
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        client.request("POST", path, data, headers)
        status = str(client.getresponse().status)
    except (OSError, http.client.HTTPException):
        status = "closed"
    finally:
        client.close()
        over.set()
        watcher.join()
    handed = 0 if path.startswith("/v") else len(data) / 2**20
    took = cpu_seconds(worker, ended=True) - before
    return Cost(took, max(most) - idle + handed, status, len(data))


def request_for(name: str, data: bytes, chance: random.Random) -> tuple[str, dict[str, str]]:
    """Return path and headers for a file of the format `name`."""
    model = "mnist-lenet-metaplastic"
    kinds = {"JSON": "application/json", "gzip": chance.choice(("application/json", "image/png"))}
    headers = {"Content-Type": kinds.get(name, "application/octet-stream")}
    if name == "gzip":
        headers["Content-Encoding"] = "gzip"
    routes = ["/predict", "/api/cifar10/lenet"]
    if b'"instances"' in data[:20]:
        routes = [f"/v1/models/{model}:predict"]
    elif b'"inputs"' in data[:20] or name == "gzip":
        routes.append(f"/v2/models/{model}/infer")
    return chance.choice(routes), headers


def send_structures(seed: int, count: int) -> bool:
    """Print the most expensive file of each format; whether none was lost or answered with 5xx."""
    good = True
    print("| format | seconds | MiB | answers |\n| --- | --- | --- | --- |")
    for name, make in FORMATS.items():
        chance = random.Random(f"{seed} {name}")
        with service(workers=1) as (process, url):
            port, (worker,) = urllib.parse.urlsplit(url).port, children(process)
            costs = []
            for _ in range(count):
                data = make(chance)
                costs.append(cost_of(port, worker, *request_for(name, data, chance), data))
            alive = {worker} == children(process)
            reads = answers(f"{url}/predict", Body("image/png", SEVEN))
        slowest = max(costs, key=lambda cost: cost.seconds)
        largest = max(costs, key=lambda cost: cost.mebibytes)
        statuses = collections.Counter(cost.status for cost in costs)
        counts = ", ".join(f"{status}: {number}" for status, number in sorted(statuses.items()))
        print(
            f"| {name} | {slowest.seconds:.2f} ({slowest.status}, {slowest.sent / 2**20:.1f} MiB) "
            f"| {largest.mebibytes:.0f} ({largest.status}, {largest.sent / 2**20:.1f} MiB) "
            f"| {counts}{'' if alive and reads else '; THE WORKER DIED'} |",
            flush=True,
        )
        good &= alive and reads and not any(status[0] in "5c" for status in statuses)
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=50_000)
    parser.add_argument("--structures", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=4)
    wanted = parser.parse_args()
    good = send_structures(wanted.seed, wanted.structures)
    if not wanted.inputs:
        sys.exit(not good)
    share = -(-wanted.inputs // wanted.clients)
    with service() as (process, url):
        port = urllib.parse.urlsplit(url).port
        workers, started = children(process), time.perf_counter()
        seen = together(
            lambda number: send_all(port, requests_of(1000 * wanted.seed + number, share)),
            wanted.clients,
        )
        took = time.perf_counter() - started
        alive = workers <= children(process)
        reads = answers(f"{url}/predict", Body("image/png", SEVEN))
    print(f"{sum(seen.values())} inputs in {took:.0f} s:")
    print("  " + ", ".join(f"{status}: {count}" for status, count in seen.items()))
    failed = sum(count for status, count in seen.items() if status.startswith("5"))
    died = "all workers alive" if alive else "A WORKER DIED"
    print(f"  5xx: {failed}; {died}; a good picture {'is' if reads else 'IS NOT'} read afterwards")
    sys.exit(bool(failed) or not alive or not reads or not good)


if __name__ == "__main__":
    main()
