"""A queueing model of the service: arrivals and service times as measured, c workers, one queue.

The workers share one queue, in the kernel, from which an idle worker takes the oldest request. When
more than `room` wait, the oldest is refused (app/server/loop.py). This is G/G/c with a bounded
queue, simulated with SimPy. Two things are as in the service: a request that finds a worker asleep
takes longer than one that follows another, and a refusal takes a worker some time, too.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import simpy


@dataclass(frozen=True)
class ServiceTimes:
    """What a worker takes, in seconds."""

    asleep: np.ndarray  # for requests that find it asleep
    busy: np.ndarray  # for requests that follow another
    refusal: float = 0.0


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
    arrivals: Sequence[float] | np.ndarray,
    times: ServiceTimes,
    workers: int,
    *,
    room: int = 8,
    seed: int = 0,
) -> Answered:
    """Return what becomes of requests that arrive at the times `arrivals`, in seconds, rising.

    Each service time is drawn from `times`.
    """
    world = simpy.Environment()
    chance = np.random.default_rng(seed)
    asleep = iter(chance.choice(times.asleep, len(arrivals)))
    busy = iter(chance.choice(times.busy, len(arrivals)))
    waiting: deque[float] = deque()  # when they arrived
    sleepers = deque(world.event() for _ in range(workers))  # each wakes one worker
    found: list[float] = []
    refused = owed = 0  # owed: refusals that no worker has sent yet

    def arrive() -> Iterator[simpy.Event]:
        nonlocal refused, owed
        for time in arrivals:
            yield world.timeout(time - world.now)
            waiting.append(world.now)
            if sleepers:
                sleepers.popleft().succeed()
            elif len(waiting) > room:
                waiting.popleft()
                refused, owed = refused + 1, owed + 1

    def work(woken: simpy.Event) -> Iterator[simpy.Event]:
        nonlocal owed
        while True:
            yield woken
            drawn = asleep
            while waiting:
                arrived, refusals, owed = waiting.popleft(), owed, 0
                yield world.timeout(next(drawn) + refusals * times.refusal)
                found.append(world.now - arrived)
                drawn = busy
            woken = world.event()
            sleepers.append(woken)

    for sleeper in sleepers:
        world.process(work(sleeper))
    world.process(arrive())
    world.run()
    return Answered(np.array(found), refused)


def poisson(rate: float, seconds: float, seed: int = 0) -> np.ndarray:
    """Return the times of a Poisson process."""
    chance = np.random.default_rng(seed)
    return np.cumsum(chance.exponential(1 / rate, max(1, round(rate * seconds))))
