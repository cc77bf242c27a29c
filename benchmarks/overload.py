"""Measure the service at five times its maximum load.

    python -m benchmarks.overload [--rounds 3] [--seconds 5] [--model mnist/lenet]

First wrk finds the maximum load (8 clients, a connection for each request). Then h2load sends half
of it and five times as much, at a constant rate whatever the answers are. Client and service share
the computer. Debian: apt-get install wrk nghttp2-client.
"""

import argparse

from benchmarks.serving import closed_loop, form_of, median, need, open_loop, service
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
    with service() as (_, url):
        url += f"/api/{wanted.model}"
        for _ in range(wanted.rounds):
            carried = closed_loop(url, body, seconds=wanted.seconds, keep=False).rate
            half = open_loop(url, body, rate=carried / 2, seconds=wanted.seconds)
            over = open_loop(url, body, rate=carried * 5, seconds=wanted.seconds)
            rounds.append((carried, half, over))
            print(
                f"carried {carried:6.0f}/s | half of it: p50 {half.p50:.2f} p99 {half.p99:.2f} ms, "
                f"{half.refused} refused, {half.lost} lost | five times: {over.rate:.0f}/s served, "
                f"p50 {over.p50:.2f} p99 {over.p99:.2f} ms, {over.refused} refused with p99 "
                f"{over.refused_p99:.2f} ms, {over.lost} lost"
            )
    served = median([over.rate / carried for carried, _, over in rounds])
    slower = median([over.p99 / half.p99 for _, half, over in rounds])
    print(f"medians: {served:.0%} of the maximum load served, p99 {slower:.2f} times as long")


if __name__ == "__main__":
    main()
