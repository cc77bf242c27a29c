"""A queueing model of the service: arrivals and service times as measured, c workers, one queue.

The workers share one queue, in the kernel, from which an idle worker takes the oldest request. When
more than `room` wait, the oldest is refused (app/server/loop.py). This is G/G/c with a bounded
queue, simulated with SimPy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import simpy


@dataclass(frozen=True)
class Answered:
    """What became of the simulated requests."""

    latencies: np.ndarray  # seconds, of those with an answer
    refused: int

    def percentile(self, share: float) -> float:
        """Return a percentile (0..100) of the latencies in milliseconds."""
        return float(np.percentile(self.latencies, share)) * 1000 if len(self.latencies) else 0.0

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.refused + len(self.latencies))


def simulate(
    arrivals: Sequence[float],
    services: np.ndarray,
    workers: int,
    *,
    room: int = 8,
    overhead: float = 0.0,
    seed: int = 0,
    losses: Sequence[float] = (),
) -> Answered:
    """Return what becomes of requests that arrive at the times `arrivals`, in seconds, rising.

    Each service time is drawn from `services`, in seconds. `overhead` is added to each latency: the
    time of client and network. At each of the times `losses` a worker is lost for good.
    """
    world = simpy.Environment()
    queue = simpy.Store(world)
    chance = np.random.default_rng(seed)
    drawn = iter(chance.choice(services, len(arrivals)))
    found: list[float] = []
    refused = 0

    def arrive() -> Iterator[simpy.Event]:
        nonlocal refused
        for time in arrivals:
            yield world.timeout(time - world.now)
            yield queue.put(world.now)
            if len(queue.items) > room:
                queue.items.pop(0)
                refused += 1

    def work(ends: float) -> Iterator[simpy.Event]:
        while world.now < ends:
            arrived = yield queue.get()
            yield world.timeout(next(drawn))
            found.append(world.now - arrived + overhead)

    ends = [*losses, *[float("inf")] * workers][:workers]
    for end in ends:
        world.process(work(end))
    world.process(arrive())
    world.run()
    return Answered(np.array(found), refused)


def poisson(rate: float, seconds: float, seed: int = 0) -> np.ndarray:
    """Return the times of a Poisson process."""
    chance = np.random.default_rng(seed)
    return np.cumsum(chance.exponential(1 / rate, max(1, round(rate * seconds))))
