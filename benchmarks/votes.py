"""What votes cost the answers: latency without METAPLASTIC_FEEDBACK, with it, and while votes come.

    python -m benchmarks.votes [--rounds 6] [--seconds 10] [--rate 40] [--votes 4]

Three services stand side by side and take turns, so that other work on the machine meets all. The
requests come at a fixed rate, whatever the answers take. A vote is about one of the answers.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.conftest import ROOT, running

SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()
CALLERS = 4


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0, help="of one service in one round")
    parser.add_argument("--rate", type=float, default=40.0, help="classifications a second")
    parser.add_argument("--votes", type=float, default=4.0, help="votes a second")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'votes.db'}"
        weights = ROOT / "weights/mnist/lenet"
        with (
            running(weights=weights) as without,
            running(weights=weights, feedback=url) as asking,
        ):
            cases = {
                "no votes are asked for": (without.port, 0.0),
                "predictions are kept": (asking.port, 0.0),
                f"and {given.votes:g} votes a second": (asking.port, given.votes),
            }
            found: dict[str, list[float]] = {name: [] for name in cases}
            voted: list[float] = []
            order = list(cases.items())
            for _ in range(given.rounds):
                order = order[1:] + order[:1]  # each case comes first, second and last
                for name, (port, votes) in order:
                    answers, times = measure(port, given.seconds, given.rate, votes)
                    found[name] += answers
                    voted += times
    print(f"| {given.rate:g} classifications a second | answers | p50 ms | p99 ms |")
    print("| --- | --- | --- | --- |")
    for name, times in found.items():
        p50, p99 = quantile(times, 0.5), quantile(times, 0.99)
        print(f"| {name} | {len(times)} | {p50:.2f} | {p99:.2f} |")
    if voted:
        print(f"\nA vote takes {statistics.median(voted):.1f} ms ({len(voted)} votes, median).")


def quantile(times: list[float], share: float) -> float:
    return 1000 * sorted(times)[int(share * (len(times) - 1))]


def measure(
    port: int, seconds: float, rate: float, votes: float
) -> tuple[list[float], list[float]]:
    """Return the seconds that each answer took, and each vote, at these rates a second."""
    answers: list[float] = []
    voted: list[float] = []
    tokens: list[str] = []

    def classify(client: http.client.HTTPConnection) -> None:
        began = time.perf_counter()
        body = ask(client, "/predict", SEVEN, "image/png")
        answers.append(time.perf_counter() - began)
        if token := body["predictions"][0].get("prediction_id"):
            tokens.append(token)

    def vote(client: http.client.HTTPConnection) -> None:
        if tokens:
            content = json.dumps({"prediction_id": tokens.pop(), "reward": 1}).encode()
            began = time.perf_counter()
            ask(client, "/api/feedback", content, "application/json")
            voted.append(1000 * (time.perf_counter() - began))

    end = time.monotonic() + seconds
    callers = [
        threading.Thread(target=repeat, args=(classify, port, CALLERS / rate, end))
        for _ in range(CALLERS)
    ]
    if votes:
        callers.append(threading.Thread(target=repeat, args=(vote, port, 1 / votes, end)))
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return answers, voted


def repeat(
    step: Callable[[http.client.HTTPConnection], None], port: int, every: float, end: float
) -> None:
    """Do `step` every few seconds until `end`, over one connection."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    turn = time.monotonic() + every * hash(threading.get_ident()) % 97 / 97 * every
    while turn < end:
        time.sleep(max(0.0, turn - time.monotonic()))
        step(client)
        turn += every
    client.close()


def ask(client: http.client.HTTPConnection, path: str, body: bytes, kind: str) -> Any:
    client.request("POST", path, body, {"Content-Type": kind})
    return json.loads(client.getresponse().read())


if __name__ == "__main__":
    main()
