"""Measure one Redis as the counter of the rate limit, at a given number of requests a second.

    python -m benchmarks.rate_limits [--rate 10000] [--seconds 10]

A real redis-server gets what the service sends it for a request with a limit: EVALSHA of the script
that counts, GET and TTL, one after the other on a connection, from 65,536 callers at random. Some
processes send them at a constant rate, whatever the answers are. It prints the processor time of
Redis for a request, the share of one core that it is busy at this rate, and the time that the three
commands take. Then redis-benchmark, which is not Python, finds the most that it carries of them.
Debian: apt-get install redis-server redis-tools.
"""

import argparse
import contextlib
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import redis

from app.web.rate_limit_store import ROWS
from benchmarks.serving import cpu_seconds, free_port, need, percentile

# As the library `limits` sends it.
SCRIPT = """
local current
local amount = tonumber(ARGV[2])
current = redis.call("incrby", KEYS[1], amount)

if tonumber(current) == amount then
    redis.call("expire", KEYS[1], ARGV[1])
end

return current
"""
KEY = "LIMITS:LIMITER/metaplastic/{}/global/1000/1/minute"


@contextlib.contextmanager
def redis_server() -> Iterator[tuple[int, int]]:
    """Start a Redis that keeps nothing on the disk. Yield its process and its port."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client = redis.Redis(port=port)
        try:
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                time.sleep(0.01)
            yield server.pid, port
        finally:
            server.terminate()
            server.wait()


def send(
    port: int, rate: float, seconds: float, seed: int, results: "multiprocessing.Queue[object]"
) -> None:
    """Count requests at times that are drawn before, and put their latencies into `results`."""
    client, chance = redis.Redis(port=port), np.random.default_rng(seed)
    count = round(rate * seconds)
    times = np.cumsum(chance.exponential(1 / rate, count))
    callers = chance.integers(0, ROWS, count)
    digest = client.script_load(SCRIPT)
    latencies, began = [], time.perf_counter()
    for due, caller in zip(times, callers, strict=True):
        wait = due - (time.perf_counter() - began)
        if wait > 0:
            time.sleep(wait)
        key, sent = KEY.format(f"10.0.{caller >> 8}.{caller & 255}"), time.perf_counter()
        client.evalsha(digest, 1, key, 60, 1)
        client.get(key)
        client.ttl(key)
        latencies.append(time.perf_counter() - sent)
    results.put((latencies, time.perf_counter() - began))


def at_rate(process: int, port: int, rate: float, seconds: float, senders: int) -> None:
    results: multiprocessing.Queue[object] = multiprocessing.Queue()
    each = [
        multiprocessing.Process(target=send, args=(port, rate / senders, seconds, seed, results))
        for seed in range(senders)
    ]
    before = cpu_seconds(process)
    for sender in each:
        sender.start()
    found = [results.get() for _ in each]
    for sender in each:
        sender.join()
    used = cpu_seconds(process) - before
    latencies = [latency * 1000 for some, _ in found for latency in some]  # type: ignore
    took = max(took for _, took in found)  # type: ignore
    sent = len(latencies) / took
    print(
        f"{sent:,.0f} requests a second of {rate:,.0f} wanted: Redis takes "
        f"{1e6 * used / len(latencies):.1f} us of processor for a request, and is busy for "
        f"{used / took:.0%} of a core; its three commands take p50 "
        f"{percentile(latencies, 0.5):.2f}, p99 {percentile(latencies, 0.99):.2f} ms"
    )


def most(port: int) -> None:
    """Print how many of each command redis-benchmark gets answered in a second."""
    digest = redis.Redis(port=port).script_load(SCRIPT)
    key = KEY.format("10.0.0.__rand_int__")
    rates = []
    for command in (["EVALSHA", digest, "1", key, "60", "1"], ["GET", key], ["TTL", key]):
        done = subprocess.run(
            [
                *("redis-benchmark", "-p", str(port), "-n", "100000", "-c", "50"),
                *("-r", str(ROWS), "--csv", *command),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        rates.append(float(done.stdout.splitlines()[-1].split('","')[1]))
    together = 1 / sum(1 / rate for rate in rates)
    print(
        f"at most: EVALSHA {rates[0]:,.0f}, GET {rates[1]:,.0f}, TTL {rates[2]:,.0f} a second; so "
        f"{together:,.0f} requests a second"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=10_000, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--senders", type=int, default=8, help="processes that send")
    wanted = parser.parse_args()
    need("redis-server", "redis-benchmark")
    with redis_server() as (process, port):
        at_rate(process, port, wanted.rate, wanted.seconds, wanted.senders)
        most(port)


if __name__ == "__main__":
    main()
