"""Hold a queueing model against the service, and calculate with it how far the service scales.

    python -m benchmarks.capacity measure [--seconds 20] > measured.json
    python -m benchmarks.capacity scale measured.json

`measure` starts the service with one and with two workers, for a small and a large network. It
measures three service times: of requests that come one by one, of requests that follow each other
(the largest throughput), and of refusals (twice that load). Then it sends requests at random times
(a Poisson process, a connection for each request) at 20 to 90 % of the throughput. The model of
benchmarks/queueing.py gets the same arrivals. The table on stderr shows both; nothing is fitted
to it. All load comes from one generator, whose share of the processors is thus in all figures.
`scale` calculates on from the measured service times. All that it prints is simulated or
calculated. Prices and the like are options, see --help.
"""

import argparse
import json
import math
import select
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.queueing import Answered, ServiceTimes, poisson, simulate
from benchmarks.serving import Body, form_of, service
from benchmarks.stages import like_the_data_set

NETWORKS = ("mnist/lenet", "cifar10/googlenet")
LOADS = (0.2, 0.4, 0.6, 0.8, 0.9)
ROOM = 8  # METAPLASTIC_MAX_WAITING
AT_EASE = 1000  # requests, at a tenth of the largest throughput
RATES = (1_000, 10_000, 100_000, 1_000_000)  # requests a second
HPA_PERIOD = 15.0  # seconds between two decisions, Kubernetes' default
HPA_TOLERANCE = 0.1


@dataclass(frozen=True)
class Measured:
    """What `scale` needs to know of a network."""

    network: str
    asleep: list[float]  # seconds: the time of a worker for a request that wakes it
    busy: list[float]  # for one that follows another
    refusal: float
    request_bytes: int
    answer_bytes: int

    @property
    def times(self) -> ServiceTimes:
        return ServiceTimes(np.array(self.asleep), np.array(self.busy), self.refusal)

    @property
    def mean(self) -> float:
        """Return the seconds of a worker for a request under load."""
        return float(np.mean(self.busy))


# Load ----------------------------------------------------------------------------------------


def http_bytes(url: str, body: Body) -> tuple[str, int, bytes]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
        f"Content-Type: {body.kind}\r\nContent-Length: {len(body.data)}\r\n\r\n"
    )
    return parts.hostname, parts.port, head.encode() + body.data


def send_at(
    times: np.ndarray, url: str, body: Body, most: int = 1_000_000
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Send a request at each of `times`, or later if `most` of them have no answer yet.

    Return when they were sent, their latencies (both in seconds), and their statuses.
    """
    host, port, request = http_bytes(url, body)
    sent, latencies, statuses = np.zeros(len(times)), np.zeros(len(times)), [0] * len(times)
    poller, open_ones = select.epoll(), {}
    began, number = time.perf_counter(), 0
    while number < len(times) or open_ones:
        now = time.perf_counter() - began
        while number < len(times) and times[number] <= now and len(open_ones) < most:
            client = socket.create_connection((host, port))
            client.sendall(request)
            sent[number] = time.perf_counter() - began
            poller.register(client, select.EPOLLIN)
            open_ones[client.fileno()] = client, number
            number += 1
        due = number < len(times) and len(open_ones) < most
        wait = max(0.0, times[number] - now) if due else 1.0
        for descriptor, _ in poller.poll(wait if wait > 0.0002 else 0):
            client, which = open_ones.pop(descriptor)
            answer = client.recv(65_536)
            latencies[which] = time.perf_counter() - began - sent[which]
            statuses[which] = int(answer[9:12] or b"0")
            poller.unregister(client)
            client.close()
    return sent, latencies, statuses


def answer_size(url: str, body: Body) -> int:
    host, port, request = http_bytes(url, body)
    with socket.create_connection((host, port)) as client:
        client.sendall(request)
        return sum(len(part) for part in iter(lambda: client.recv(65_536), b""))


# Measure -------------------------------------------------------------------------------------


def measure(seconds: float) -> list[Measured]:
    print(
        "| network | workers | load | p50, ms: measured | model | p99, ms: measured | model "
        "| refused: measured | model |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        file=sys.stderr,
    )
    found = []
    for network in NETWORKS:
        for workers in (1, 2):
            known = measure_one(network, workers, seconds)
            if workers == 1:
                found.append(known)
    return found


def measure_one(network: str, workers: int, seconds: float) -> Measured:
    body = form_of(like_the_data_set(network))
    with service(workers=workers, max_waiting=ROOM) as (_, url):
        url += f"/api/{network}"
        known = service_times(url, body, workers, seconds / 4, network)
        carried = workers / known.mean
        for load in LOADS:
            times = poisson(load * carried, seconds, seed=round(100 * load))
            sent, latencies, statuses = send_at(times, url, body)
            good = np.array(statuses) == 200
            real = Answered(latencies[good], int((~good).sum()))
            model = simulate(np.sort(sent), known.times, workers, room=ROOM)
            row = [f"{load:.0%}"]
            for share in (50, 99):
                row += [f"{real.percentile(share):.2f}", f"{model.percentile(share):.2f}"]
            row += [f"{real.refused_share:.2%}", f"{model.refused_share:.2%}"]
            print(f"| {network} | {workers} | {' | '.join(row)} |", file=sys.stderr, flush=True)
    return known


def service_times(url: str, body: Body, workers: int, seconds: float, network: str) -> Measured:
    """Return what a worker takes for a request alone, for one under load, and for a refusal."""
    clients = 4 * workers  # so many that no worker waits, and so few that none is refused
    send_at(np.zeros(100), url, body, clients)  # every worker opens its session
    sent, latencies, _ = send_at(np.zeros(500), url, body, clients)
    rate = len(sent) / (sent + latencies).max()
    sent, latencies, _ = send_at(np.zeros(round(rate * seconds)), url, body, clients)
    carried = len(sent) / (sent + latencies).max()
    _, asleep, _ = send_at(np.arange(AT_EASE) * 10 / carried, url, body)
    sent, latencies, statuses = send_at(poisson(2 * carried, seconds), url, body)
    refused = sum(status != 200 for status in statuses)
    answered = len(statuses) - refused
    refusal = (workers * (sent + latencies).max() - answered * workers / carried) / refused
    return Measured(
        network,
        asleep.tolist(),
        (asleep * (workers / carried / asleep.mean())).tolist(),  # of the same distribution
        max(0.0, float(refusal)),
        len(http_bytes(url, body)[2]),
        answer_size(url, body),
    )


# Scale ---------------------------------------------------------------------------------------


def scale(known: list[Measured], wanted: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the tables. All figures are calculated or simulated."""
    for one in known:
        yield f"\n### {one.network}: {1000 * one.mean:.2f} ms of a worker for a request\n"
        yield from sizes(one, one.mean, wanted)
        yield ""
        yield from money(one.mean, wanted)
        yield ""
        yield from doubled(one, wanted)
        yield from lost_node(one, wanted)


def sizes(one: Measured, mean: float, wanted: argparse.Namespace) -> Iterator[str]:
    yield (
        "| requests/s (calculated) | workers | machines | network | Redis, of one "
        "| balancer cores | time series |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for rate in RATES:
        workers = math.ceil(rate * mean / wanted.utilisation)
        machines = math.ceil(workers / wanted.cores)
        gigabits = rate * (one.request_bytes + one.answer_bytes) * 8 / 1e9
        redis = rate / wanted.redis_rate
        balancer = math.ceil(rate / wanted.balancer_rate)
        series = math.ceil(workers / wanted.workers) * wanted.series
        yield (
            f"| {rate:,} | {workers:,} | {machines:,} | {gigabits:.2f} Gbit/s | {redis:.0%} "
            f"| {balancer:,} | {series:,} |"
        )


def money(mean: float, wanted: argparse.Namespace) -> Iterator[str]:
    yield "| a million pictures (calculated) | processor hours | cost |\n| --- | --- | --- |"
    online = 1e6 * mean / 3600 / wanted.utilisation
    bulk = 1e6 * wanted.bulk_seconds / 3600 if wanted.bulk_seconds else 1e6 * mean / 3600
    for name, hours, price in (
        (f"online, at {wanted.utilisation:.0%} load", online, wanted.price),
        ("in bulk", bulk, wanted.bulk_price),
    ):
        yield f"| {name} | {hours:.2f} | {hours * price:.3f} |"


def doubled(one: Measured, wanted: argparse.Namespace) -> Iterator[str]:
    """Yield what happens when the load doubles at once, second by second.

    The HPA looks every 15 s at a load that is `--metrics-age` seconds old, and its pods serve
    after `--pod-start` seconds.
    """
    mean, target = one.mean, wanted.utilisation
    replicas, ready = [10], 10
    rate = target * 10 * wanted.workers / mean  # the pods are at their target
    coming: list[tuple[float, int]] = []
    refused = sent = 0.0
    settled = 0
    for second in range(600):
        ready += sum(count for at, count in coming if at <= second)
        coming = [(at, count) for at, count in coming if at > second]
        now = 2 * rate
        carried = ready * wanted.workers / mean
        sent += now
        refused += max(0.0, now - carried)
        if now > target * (1 + HPA_TOLERANCE) * carried:
            settled = second + 1
        if second % HPA_PERIOD == 0 and second >= wanted.metrics_age:
            seen = min(1.0, now / carried)  # processors cannot be busier than that
            planned = ready + sum(count for _, count in coming)
            if seen > target * (1 + HPA_TOLERANCE):
                needed = min(math.ceil(ready * seen / target), 2 * replicas[-1])
                if needed > planned:
                    coming.append((second + wanted.pod_start, needed - planned))
                    replicas.append(needed)
    path = " - ".join(map(str, replicas))
    yield (
        f"When the load doubles at once (simulated): pods {path}; below target again after "
        f"{settled} s; {refused / (2 * rate):.0f} s' worth of requests refused "
        f"({refused / sent:.1%} of ten minutes)."
    )


def lost_node(one: Measured, wanted: argparse.Namespace) -> Iterator[str]:
    """Yield what the loss of one of ten pods costs those that are left.

    A balancer gives each request to a pod at random. Each pod has a queue of its own.
    """
    rate = wanted.utilisation * 10 * wanted.workers / one.mean
    arrivals = poisson(rate, 200_000 / rate)
    for pods in (10, 9):
        chosen = np.random.default_rng(0).integers(0, pods, len(arrivals))
        each = [
            simulate(arrivals[chosen == pod], one.times, wanted.workers, room=ROOM, seed=pod)
            for pod in range(pods)
        ]
        latencies = np.concatenate([found.latencies for found in each])
        found = Answered(latencies, sum(found.refused for found in each))
        yield (
            f"\n{pods} pods at {wanted.utilisation * 10 / pods:.0%} (simulated): p50 "
            f"{found.percentile(50):.2f} ms, p99 {found.percentile(99):.2f} ms, "
            f"{found.refused_share:.2%} refused."
        )
    lost = wanted.detection * rate / 10
    yield (
        f"\nUntil the loss is noticed ({wanted.detection:g} s), a tenth of the requests goes to "
        f"the lost pod: {lost:,.0f} at {rate:,.0f} a second (calculated)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    measuring = actions.add_parser("measure", help="measure, and compare with the model")
    measuring.add_argument("--seconds", type=float, default=20, help="for each load")
    scaling = actions.add_parser("scale", help="calculate on from what was measured")
    scaling.add_argument("measured", type=Path)
    for name, default, meaning in (
        ("utilisation", 0.7, "share of the workers that is busy: the HPA's target"),
        ("cores", 16, "workers a machine"),
        ("workers", 2, "workers a pod"),
        ("redis-rate", 30_000, "requests a second that one Redis counts"),
        ("balancer-rate", 10_000, "requests a second that a core of the balancer passes on"),
        ("series", 2_200, "time series of a pod, whose twenty models were all asked"),
        ("pod-start", 15, "seconds from the HPA's decision to a ready pod"),
        ("metrics-age", 30, "seconds that the HPA's figures lag behind"),
        ("detection", 40, "seconds until a lost pod gets no more requests"),
        ("price", 0.04, "of a processor hour online"),
        ("bulk-price", 0.015, "of a processor hour in bulk, which may be interrupted"),
        ("bulk-seconds", 0.0, "processor seconds for a picture in bulk (default: as online)"),
    ):
        scaling.add_argument(
            f"--{name}", type=type(default), default=default, help=f"{meaning} ({default})"
        )
    wanted = parser.parse_args()
    if wanted.action == "measure":
        print(json.dumps([asdict(one) for one in measure(wanted.seconds)]))
        return
    known = [Measured(**entry) for entry in json.loads(wanted.measured.read_text())]
    for line in scale(known, wanted):
        print(line)


if __name__ == "__main__":
    main()
