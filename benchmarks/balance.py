"""How clients that stay connected are spread over two workers: at first, and under load.

    python -m benchmarks.balance [--rounds 10]

Clients connect at once, or one by one with an upload each. Printed is the part of them that the
fuller worker holds, and how often it holds all: as they have connected, and after each has asked
ten times more, all at the same time. Where a client is told `Connection: close`, it connects again.
"""

import argparse
import contextlib
import socket
import time
from pathlib import Path

from benchmarks.serving import children, form_of, service
from benchmarks.stages import like_the_data_set

CLIENTS = (2, 8, 64)
TURNS = 10


class Client:
    """A client that stays connected as long as the service wishes."""

    def __init__(self, port: int, request: bytes) -> None:
        self.port, self.request = port, request
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), 30)

    def send(self) -> None:
        self.socket.sendall(self.request)

    def receive(self) -> None:
        """Take an answer, which is small enough to come in one piece."""
        answer = self.socket.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(answer.decode())
        if b"\r\nConnection: close\r\n" in answer:
            self.socket.close()
            self.connect()


def sockets(process: int) -> int:
    """Return how many sockets a process has open."""
    found = 0
    for entry in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += str(entry.readlink()).startswith("socket:")
    return found


def fuller(workers: list[int], before: list[int]) -> float:
    """Return the part of the connections that the fuller worker holds."""
    held = [sockets(worker) - count for worker, count in zip(workers, before, strict=True)]
    return max(held) / sum(held)


def measure(count: int, *, at_once: bool) -> tuple[float, float]:
    """Return the fuller worker's part before and after the load."""
    body = form_of(like_the_data_set("mnist/lenet"))
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {body.kind}\r\nContent-Length: "
    request = f"{head}{len(body.data)}\r\n\r\n".encode() + body.data
    with service(workers=2, max_waiting=2 * count, keep_alive=60) as (process, url):
        # The client that found the service ready has gone then, and the second worker is there.
        time.sleep(1)
        workers = sorted(children(process))
        before = [sockets(worker) for worker in workers]
        clients = []
        for _ in range(count):
            clients.append(Client(int(url.rpartition(":")[2]), request))
            if not at_once:
                clients[-1].send()
                clients[-1].receive()
        if at_once:
            ask(clients)
        first = fuller(workers, before)
        for _ in range(TURNS):
            ask(clients)
        for client in clients:  # those that have just connected are taken up
            client.send()
            client.receive()
        return first, fuller(workers, before)


def ask(clients: list[Client]) -> None:
    for client in clients:
        client.send()
    for client in clients:
        client.receive()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    print("| clients | connect | the fuller worker holds | all | after the load | all |")
    print("| --- " * 6 + "|")
    for count in CLIENTS:
        for at_once in (True, False):
            pairs = [measure(count, at_once=at_once) for _ in range(rounds)]
            cells = []
            for parts in zip(*pairs, strict=True):
                share = sum(parts) / rounds
                cells += [f"{share:.0%}", f"{sum(part == 1 for part in parts)} of {rounds}"]
            way = "at once" if at_once else "one by one"
            print(f"| {count} | {way} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
