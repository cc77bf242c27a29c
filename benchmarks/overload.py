"""Measure the service at five times its maximum load.

    python -m benchmarks.overload [--rounds 3] [--seconds 5] [--model mnist/lenet]

First wrk finds the maximum load (8 clients, a connection for each request). Then h2load sends half
of it and five times as much, at a constant rate whatever the answers are. Client and service share
the computer. The output begins with the processor time of an answer at the maximum load, and with
that of one of the requests that came five times too often, of which most are refused. The ratio of
the two is that of the same round. Debian: apt-get install wrk nghttp2-client.
"""

import argparse

from benchmarks.serving import asked, cpu_seconds, form_of, median, need, open_loop, service
from benchmarks.stages import like_the_data_set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--model", default="mnist/lenet")
    wanted = parser.parse_args()
    need("wrk", "h2load")
    body = form_of(like_the_data_set(wanted.model))
    rounds = []
    with service() as (process, url):
        url += f"/api/{wanted.model}"
        for _ in range(wanted.rounds):
            cpu, load = asked([process], url, body, seconds=wanted.seconds, keep=False)
            carried = load.rate
            half = open_loop(url, body, rate=carried / 2, seconds=wanted.seconds)
            before, count = cpu_seconds(process), max(1, round(5 * carried * wanted.seconds))
            over = open_loop(url, body, rate=carried * 5, seconds=wanted.seconds)
            of_any = 1e6 * (cpu_seconds(process) - before) / count
            rounds.append((carried, half, over, of_any / cpu))
            print(
                f"CPU of an answer {cpu:.0f} us, of a request at five times the load "
                f"{of_any:.0f} us ({of_any / cpu:.2f}) | carried {carried:6.0f}/s | "
                f"half of it: p50 {half.p50:.2f} p99 {half.p99:.2f} ms, "
                f"{half.refused} refused, {half.lost} lost | "
                f"five times: {over.rate:.0f}/s served, p50 {over.p50:.2f} p99 {over.p99:.2f} ms, "
                f"{over.refused} refused with p99 {over.refused_p99:.2f} ms, {over.lost} lost"
            )
    cheaper = median([ratio for *_, ratio in rounds])
    served = median([over.rate / carried for carried, _, over, _ in rounds])
    slower = median([over.p99 / half.p99 for _, half, over, _ in rounds])
    print(
        f"medians: {cheaper:.2f} times the CPU of an answer, {served:.0%} of the maximum load "
        f"served, p99 {slower:.2f} times as long"
    )


if __name__ == "__main__":
    main()
