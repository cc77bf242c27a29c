"""Compare workers of gunicorn for the service, alone and with slow clients.

    python -m benchmarks.workers [--rounds 3] [--seconds 3]

The same application runs in gunicorn's sync and threaded workers, in our own worker
(app/server/worker.py), and in our own worker behind nginx with the proxy settings of
deploy/nginx.conf. There are two processes unless the name says otherwise.

The load is eight clients of wrk, with a new connection for each upload. They run alone, then beside
50 connections that send their head byte by byte, 50 that send their body byte by byte, 1,000 that
send nothing, and 50 that request 5 MB and read nothing. The output is the processor time of an
answer in microseconds (nginx included), the answers per second, and the p99 of their latency, as
medians of the rounds. Ratios to `ours` beside the same clients in the same round are in brackets.
Debian: apt-get install wrk nginx-light.
"""

import argparse
import contextlib
import resource
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.serving import Load, asked, form_of, free_port, median, need, running
from benchmarks.stages import like_the_data_set

HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\n"
    b"Content-Type: image/png\r\nContent-Length: 100000\r\n\r\n"
)
GUNICORN = (sys.executable, "-m", "gunicorn", "wsgi:app", "--workers", "2", "--log-level", "error")


@contextlib.contextmanager
def gunicorn(*options: str) -> Iterator[tuple[list[int], int]]:
    """Run gunicorn's own workers. Yield the first process of each server, and the port."""
    port = free_port()
    command = (*GUNICORN, "--bind", f"127.0.0.1:{port}", *options)
    with running(command, f"http://127.0.0.1:{port}/health/ready") as (process, _):
        yield [process], port


@contextlib.contextmanager
def ours(processes: int = 2) -> Iterator[tuple[list[int], int]]:
    port = free_port()
    variables = {"METAPLASTIC_PORT": str(port), "METAPLASTIC_WORKERS": str(processes)}
    ready = f"http://127.0.0.1:{port}/health/ready"
    with running((sys.executable, "wsgi.py"), ready, variables=variables) as (process, _):
        yield [process], port


@contextlib.contextmanager
def behind_nginx() -> Iterator[tuple[list[int], int]]:
    """Run the service behind nginx with deploy/nginx.conf, but without its limits per client."""
    with ours() as (processes, service), tempfile.TemporaryDirectory() as name:
        port, text = free_port(), Path("deploy/nginx.conf").read_text()
        text = text.replace("listen 80 ", f"listen 127.0.0.1:{port} ")
        text = text.replace("        listen [::]:80 backlog=4096;\n", "")
        text = text.replace("127.0.0.1:5000", f"127.0.0.1:{service}")
        text = text.replace("limit_conn clients 64;", "limit_conn clients 4096;")
        text = text.replace("rate=50r/s", "rate=1000000r/s")
        conf = Path(name) / "nginx.conf"
        conf.write_text(f"daemon off;\npid {name}/pid;\n{text}")
        command = ("nginx", "-p", name, "-c", str(conf), "-e", "stderr")
        with running(command, f"http://127.0.0.1:{port}/health/ready") as (process, _):
            yield [*processes, process], port


WORKERS = {
    "gunicorn, sync": lambda: gunicorn(),
    "gunicorn, 2 threads": lambda: gunicorn("-k", "gthread", "--threads", "2"),
    "gunicorn, 4 threads": lambda: gunicorn("-k", "gthread", "--threads", "4"),
    "ours": ours,
    "ours, 1 process": lambda: ours(1),
    "ours, 4 processes": lambda: ours(4),
    "ours behind nginx": behind_nginx,
}


@contextlib.contextmanager
def slow_clients(port: int, count: int, begin: bytes, drip: bytes) -> Iterator[None]:
    """Keep `count` connections open that send `begin`, then a byte of `drip` every 20 ms."""
    over = threading.Event()
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(2)
            with contextlib.suppress(OSError):
                client.connect(("127.0.0.1", port))
                client.sendall(begin)
                clients.append(client)

        def send() -> None:
            for number in range(len(drip)):
                for client in clients:
                    with contextlib.suppress(OSError):
                        client.send(drip[number : number + 1], socket.MSG_DONTWAIT)
                if over.wait(0.02):
                    return

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


ASK_MUCH = b"GET /swaggerui/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 5
ATTACKS: dict[str, Callable[[int], contextlib.AbstractContextManager[None]]] = {
    "alone": lambda port: contextlib.nullcontext(),
    "slow heads": lambda port: slow_clients(port, 50, HEAD[:5], b"x" * 10_000),
    "slow bodies": lambda port: slow_clients(port, 50, HEAD, b"x" * 10_000),
    "1,000 idle": lambda port: slow_clients(port, 1000, b"", b""),
    "slow readers": lambda port: slow_clients(port, 50, ASK_MUCH, b""),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    wanted = parser.parse_args()
    need("wrk", "nginx")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    body = form_of(like_the_data_set("mnist/lenet"))
    found: dict[tuple[str, str], list[tuple[float, Load]]] = {}
    for _ in range(wanted.rounds):
        for worker, start in WORKERS.items():
            for attack, begin in ATTACKS.items():
                with start() as (processes, port), begin(port):
                    url = f"http://127.0.0.1:{port}/predict"
                    measured = asked(processes, url, body, seconds=wanted.seconds, keep=False)
                found.setdefault((worker, attack), []).append(measured)
    print(f"| | {' | '.join(ATTACKS)} |")
    print("| --- " * (len(ATTACKS) + 1) + "|")
    for worker in WORKERS:
        cells = [_cell(found[worker, attack], found["ours", attack]) for attack in ATTACKS]
        print(f"| {worker} | {' | '.join(cells)} |")


def _cell(measured: list[tuple[float, Load]], ours: list[tuple[float, Load]]) -> str:
    """Return the medians of the rounds, with their ratios to `ours`."""
    cpu, rate = median([cpu for cpu, _ in measured]), median([load.rate for _, load in measured])
    if not rate:
        return "no answer"
    pairs = list(zip(measured, ours, strict=True))
    dearer = median([one[0] / other[0] for one, other in pairs])
    faster = median([one[1].rate / other[1].rate for one, other in pairs if other[1].rate])
    p99 = median([load.p99 for _, load in measured])
    return f"{cpu:.0f} us ({dearer:.2f}), {rate:.0f}/s ({faster:.2f}), {p99:.1f} ms"


if __name__ == "__main__":
    main()
