"""Measure bulk classification: on this machine, on Ray, and the memory of the command.

    METAPLASTIC_DATA=... python -m benchmarks.bulk [--pictures 5000] [--model cifar10/googlenet]
    python -m benchmarks.bulk --names 10000000

The first writes test images of CIFAR-10 as PNG files and classifies them by `app.classify` with one
and two processes, and on a Ray cluster of one and two processors on this machine. It prints seconds
on the clock, and the processor time of all processes. That of Ray includes the start and the end of
the cluster. The second gives a job so many made-up names and a classifier that does nothing, and
prints the peak memory of the command. Ray's token, if there is none, is made for this run.
"""

import argparse
import contextlib
import ctypes
import os
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from app.bulk.answers import ModelFile, Order
from app.bulk.job import About, Job
from app.bulk.merge import merge
from app.bulk.on_ray import Cluster
from app.bulk.progress import Progress
from app.bulk.sources import Listed, Source, pictures_in
from app.bulk.tables import Identity, Row, finished_rows
from app.bulk.work import work_through
from app.catalogue.load import load_catalogue
from app.settings import Settings
from benchmarks.serving import family

HOST = "127.0.0.2"  # Ray puts this machine's outer address in the place of 127.0.0.1
STORE = 200_000_000  # bytes of Ray's object store
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def write_pictures(folder: Path, count: int) -> None:
    if "METAPLASTIC_DATA" not in os.environ:
        raise SystemExit("METAPLASTIC_DATA must name a folder with cifar10.npz")
    with np.load(Path(os.environ["METAPLASTIC_DATA"]) / "cifar10.npz") as data:
        images = data["x_test"][:count]
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:06}.png")


class Meter(threading.Thread):
    """Read the processor time of all processes below this one, ten times a second.

    Asking the system at the end would not do: Ray's processes do not wait for their children.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._seconds: dict[int, float] = {}
        self._over = threading.Event()

    def run(self) -> None:
        tick = os.sysconf("SC_CLK_TCK")
        while not self._over.wait(0.1):
            for process in family(os.getpid())[1:]:
                with contextlib.suppress(OSError):
                    text = Path(f"/proc/{process}/stat").read_text()
                    user, system = map(int, text.rpartition(")")[2].split()[11:13])
                    self._seconds[process] = (user + system) / tick

    def stop(self) -> float:
        """Return all processor time so far, in seconds."""
        self._over.set()
        self.join()
        return sum(self._seconds.values())


def end_what_is_left() -> None:
    """Wait for the processes of a cluster that was ended; they are ours (see `compare`)."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


@contextlib.contextmanager
def ray_cluster(cpus: int) -> Iterator[str]:
    """Start a cluster on this machine, and end it. Yield its address."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        log = Path(folder, "log")
        command = [Path(sys.executable).parent / "ray", "start", "--head", "--block"]
        command += [f"--node-ip-address={HOST}", "--port=6391", f"--num-cpus={cpus}"]
        command += ["--include-dashboard=false", f"--object-store-memory={STORE}"]
        command += ["--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={folder}"]
        with log.open("w") as output:
            head = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            while "Ray runtime started" not in log.read_text():
                if head.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.05)
            yield f"{HOST}:6391"
        finally:
            head.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                head.wait(15)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(head.pid, signal.SIGKILL)


def measure(name: str, command: list[str], cpus: int = 0) -> None:
    """Run a command, on Ray if it has `cpus`, and print a row."""
    meter, began = Meter(), time.monotonic()
    meter.start()
    with ray_cluster(cpus) if cpus else contextlib.nullcontext("") as address:
        started = time.monotonic()
        full = [*command, "--on", address] if address else command
        subprocess.run(full, check=True, stdout=subprocess.DEVNULL)
        wall = time.monotonic() - started
    used = meter.stop()
    end_what_is_left()
    print(f"| {name} | {wall:.1f} | {started - began:.1f} | {used:.1f} |", flush=True)


def compare(count: int, model: str, rounds: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "pictures")
        folder.mkdir()
        write_pictures(folder, count)
        print(f"| {count} PNG files, {model} | seconds | start of Ray | processor seconds |")
        print("| --- | --- | --- | --- |")
        for number in range(rounds):
            plain = [sys.executable, "-m", "app.classify", str(folder), "--model", model]
            for cpus in (1, 2):
                out = ["--out", f"{place}/plain-{number}-{cpus}.csv", "--processes", str(cpus)]
                measure(f"{cpus} processes", [*plain, *out])
                out = ["--out", f"{place}/ray-{number}-{cpus}.csv"]
                measure(f"Ray, {cpus} processors", [*plain, *out], cpus)
        tables = {path.read_bytes() for path in Path(place).glob("*.csv")}
        print(f"\nThe tables are {'equal' if len(tables) == 1 else 'NOT equal'}.")


def nothing(order: Order, pictures: tuple[Listed, ...]) -> Iterator[Row]:
    """Yield a row for each picture without a look at it."""
    for picture in pictures:
        yield Row(picture.name, "nothing", "0.500000", "true")


def remember(names: int, chunk: int) -> None:
    """Print the peak memory of a command with so many names."""
    model = next(iter(load_catalogue(Settings()).endpoints["mnist/lenet"]))
    identity = Identity(model.card.name, str(model.card.version))
    with tempfile.TemporaryDirectory() as place, ray_cluster(os.cpu_count() or 1) as address:
        listed, out = Path(place, "names"), Path(place, "results.csv")
        with listed.open("w") as file:
            file.writelines(f"folder-{n // 1000:05}/picture-{n:08}.png\n" for n in range(names))
        began = time.monotonic()
        source = Source("list", str(listed))
        job = Job(out, About(f"list {listed}", *identity, model.runs, model.content.sha256))
        job.plan(
            pictures_in(source), (r[0] for r in finished_rows(out, identity)), bytes.decode, chunk
        )
        planned = time.monotonic()
        file_of_model = ModelFile(model.folder, model.runs, model.content.sha256)
        order = Order(source, job.folder, file_of_model, Settings(), nothing)
        runner = Cluster(address, order)
        with contextlib.closing(runner):
            work_through(job, runner, Progress(names), 600)
        worked = time.monotonic()
        size = (job.folder / "job.sqlite").stat().st_size / 1e6
        merged = merge(job, out, identity)
        job.close()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{names} names, {merged.classified} rows: {peak:.0f} MiB at most; "
            f"{planned - began:.0f} s to write them down ({size:.0f} MB), {worked - planned:.0f} s "
            f"of tasks, {time.monotonic() - worked:.0f} s to merge"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--model", default="cifar10/googlenet")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--names", type=int, help="measure memory, with so many names")
    parser.add_argument("--chunk", type=int, default=256, help="names a task")
    wanted = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    if wanted.names:
        remember(wanted.names, wanted.chunk)
    else:
        compare(wanted.pictures, wanted.model, wanted.rounds)


if __name__ == "__main__":
    main()
