"""Compare the service with other servers: the same network and the same uploads, in turn.

    python -m benchmarks.serve [--rounds 3] [--seconds 5] [--only mosec ...] [--cache FOLDER]

At first use, each peer is installed into its own virtual environment below the cache folder. This
takes about 8 GB, mostly for TensorFlow and Triton, and needs PyPI. A peer runs with two workers, as
Metaplastic does, and otherwise with its defaults. Networks run on one thread each. The client is
wrk (Debian: apt-get install wrk), on the same computer.

Uploads are PNGs with the input size of the network, in a form. mosec gets the PNG alone. MLServer
and PyTriton take tensors and get the decoded array as JSON. `small` is the published mnist/lenet.
`large` is an untrained GoogLeNet, 32x32x3, with 79 million multiply-adds. The peers with Keras run
the `.keras` file, all others its ONNX export.

The table begins with the processor time of an answer, which other programs disturb least. Then
follow answers per second with 8 clients, p50 and p99 of their latency, p50 of one client alone,
memory (PSS) of all processes and of the largest one, and the seconds from the command to the first
answer. Ratios to `empty Flask route` in the same round are in brackets. All values are medians of
the rounds. `empty Flask route` has no model and no image: Flask in gunicorn's sync workers.
"""

import argparse
import dataclasses
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.serving import (
    ROOT,
    Body,
    asked,
    closed_loop,
    family,
    form_of,
    free_port,
    median,
    memory_mib,
    need,
    running,
)
from benchmarks.stages import like_the_data_set
from models.cards import KERAS_MODEL, ONNX_MODEL, read_card, write_card

PEERS = Path(__file__).parent / "peers"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metaplastic-peers"
OURS, EMPTY = "Metaplastic", "empty Flask route"
ONNX = ("numpy==2.4.6", "onnxruntime==1.31.1", "pillow==13.0.0")
KERAS = (
    "keras==3.15.1",
    "tensorflow-cpu==2.21.0",
    "h5py==3.14.0",
    "numpy==2.4.6",
    "pillow==13.0.0",
)


@dataclass(frozen=True)
class Peer:
    """Another server. {bin}, {port} and {here} in `command` are filled in."""

    name: str
    packages: tuple[str, ...]  # empty: our own environment
    command: str
    path: str = "/predict"
    sends: str = "form"  # or "png", "tensor"
    python: str = sys.executable  # makes its environment, if it exists


# PyTriton's wheel embeds Debian's Python 3.11 and fails with a newer standard library.
GUNICORN = "{bin}/gunicorn --workers 2 --bind 127.0.0.1:{port} --chdir {here} --log-level error"
ALL = (
    Peer(OURS, (), "{bin}/python wsgi.py"),
    Peer(EMPTY, (), f"{GUNICORN} empty_server:app"),
    Peer("mosec", ("mosec==0.9.8", *ONNX), "{bin}/python {here}/mosec_server.py --port {port}"
         " --timeout 30000 --log-level error", "/inference", "png"),
    Peer("PyTriton", ("nvidia-pytriton==0.7.0", "onnxruntime==1.31.1", "pillow==13.0.0"),
         "{bin}/python {here}/pytriton_server.py", "/v2/models/model/infer", "tensor",
         "/usr/bin/python3.11"),
    Peer("LitServe", ("litserve==0.2.19", "python-multipart", *ONNX),
         "{bin}/python {here}/litserve_server.py"),
    Peer("BentoML", ("bentoml==1.4.39", *ONNX),
         "{bin}/bentoml serve bentoml_server:Classifier --working-dir {here} --port {port}"),
    Peer("MLServer", ("mlserver==1.7.1", "uvloop==0.21.0", "onnxruntime==1.31.1", "pillow==13.0.0"),
         "{bin}/python {here}/mlserver_start.py", "/v2/models/model/infer", "tensor"),
    Peer("FastAPI + Keras", ("fastapi==0.165.0", "uvicorn[standard]", "python-multipart", *KERAS),
         "{bin}/uvicorn fastapi_server:app --workers 2 --port {port} --app-dir {here}"
         " --log-level error"),
    Peer("Flask + Keras predict", ("flask==3.1.3", "gunicorn==27.0.1", *KERAS),
         f"{GUNICORN} --timeout 120 flask_server:app"),
)  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """The measurements of one peer in one round."""

    cpu: float  # microseconds of the server's processor time for an answer
    rate: float
    p50: float
    p99: float
    alone: float  # p50 of one client, milliseconds
    memory: float  # MiB, of all its processes
    worker: float  # MiB, of its largest process
    ready: float  # seconds


@dataclass(frozen=True)
class ServedNetwork:
    """A model in a model repository, and a picture for it."""

    weights: Path  # the model repository
    folder: Path
    endpoint: str
    png: bytes

    @property
    def tensor(self) -> np.ndarray:
        pixels = np.asarray(Image.open(io.BytesIO(self.png)), np.float32) / 255
        return (pixels if pixels.ndim == 3 else pixels[..., None])[None]

    def body(self, sends: str) -> Body:
        if sends == "form":
            return form_of(self.png)
        if sends == "png":
            return Body("image/png", self.png)
        pixels = self.tensor
        data = {
            "name": "image",
            "shape": list(pixels.shape),
            "datatype": "FP32",
            "data": [round(float(value), 6) for value in pixels.ravel()],
        }
        return Body("application/json", json.dumps({"inputs": [data]}).encode())


def small() -> ServedNetwork:
    newest = max((ROOT / "weights/mnist/lenet/metaplastic").iterdir(), key=lambda p: int(p.name))
    return ServedNetwork(ROOT / "weights", newest, "mnist/lenet", like_the_data_set("mnist/lenet"))


def large(cache: Path) -> ServedNetwork:
    """Return an untrained GoogLeNet in its own model repository, made once in a new process."""
    weights = cache / "weights"
    folder = weights / "cifar10/googlenet/backprop/1"
    if not (folder / "card.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        make = [sys.executable, "-m", "benchmarks.serve", "--make", str(folder)]
        subprocess.run(
            make,
            cwd=ROOT,
            check=True,
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
    return ServedNetwork(
        weights, folder, "cifar10/googlenet", like_the_data_set("cifar10/googlenet", weights)
    )


def make_large(folder: Path) -> None:
    """Build and export the network, with a card derived from that of the published LeNet."""
    from models.architectures import build
    from models.data.datasets import DATASETS
    from models.packaging.export import export

    target = DATASETS["cifar10"]
    shape = (target.input.height, target.input.width, target.input.channels)
    network = build(
        "googlenet", shape, len(target.labels), mean=target.input.mean, std=target.input.std
    )
    network.save(folder / KERAS_MODEL)
    export(folder)
    card = dataclasses.replace(
        read_card(small().folder),
        dataset="cifar10",
        architecture="googlenet",
        rule="backprop",
        version=1,
        labels=target.labels,
        input=target.input,
        files={},
    )
    write_card(folder, card)


def install(peer: Peer, cache: Path) -> Path:
    """Return the folder of programs in the environment of a peer, which is created if necessary.

    Raises RuntimeError if pip cannot install it.
    """
    if not peer.packages:
        return Path(sys.executable).parent
    environment = cache / peer.name.lower().replace(" ", "-")
    done = environment / "installed"
    if not done.exists() or done.read_text() != "\n".join(peer.packages):
        print(f"installing {peer.name} ...", flush=True)
        python = peer.python if Path(peer.python).exists() else sys.executable
        subprocess.run([python, "-m", "venv", "--clear", environment], check=True)
        pip = subprocess.run(
            [
                environment / "bin/pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                *peer.packages,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if pip.returncode:
            raise RuntimeError(pip.stderr.strip().rpartition("\n")[2])
        done.write_text("\n".join(peer.packages))
    return environment / "bin"


def measure(peer: Peer, programs: Path, network: ServedNetwork, seconds: float) -> Figures:
    """Start a peer, send load, measure it, and stop it."""
    port = free_port()
    filled = peer.command.format(bin=programs, port=port, here=PEERS)
    height, width, channels = network.tensor.shape[1:]
    variables = {
        "PORT": str(port),
        "PORT2": str(free_port()),
        "PORT3": str(free_port()),
        "METAPLASTIC_PORT": str(port),
        "METAPLASTIC_WEIGHTS": str(network.weights),
        "MODEL_ONNX": str(network.folder / ONNX_MODEL),
        "MODEL_KERAS": str(network.folder / KERAS_MODEL),
        "SHAPE": f"{height},{width},{channels}",
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "BENTOML_DO_NOT_TRACK": "True",
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    path = f"/api/{network.endpoint}" if peer.name == OURS else peer.path
    url, body = f"http://127.0.0.1:{port}{path}", network.body(peer.sends)
    with running(filled.split(), url, body, variables) as (process, ready):
        closed_loop(url, body, seconds=1)  # warm
        cpu, load = asked([process], url, body, seconds=seconds)
        alone = closed_loop(url, body, clients=1, seconds=seconds / 2).p50
        weights = [memory_mib(pid) for pid in family(process)]
    if load.refused or load.lost:
        print(f"  {peer.name}: {load.refused} not answered with 200, {load.lost} lost")
    return Figures(cpu, load.rate, load.p50, load.p99, alone, sum(weights), max(weights), ready)


def compare(
    network: ServedNetwork, cache: Path, rounds: int, seconds: float, only: list[str]
) -> None:
    """Run the peers in turn, `rounds` times, and print the table."""
    found: dict[str, list[Figures]] = {}
    absent: dict[str, str] = {}
    chosen = [peer for peer in ALL if not only or peer.name in (OURS, EMPTY, *only)]
    for number in range(rounds):
        for peer in chosen:
            if peer.name in absent:
                continue
            try:
                figures = measure(peer, install(peer, cache), network, seconds)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                absent[peer.name] = str(error).strip().rpartition("\n")[2]
                continue
            found.setdefault(peer.name, []).append(figures)
            print(f"  round {number + 1}, {peer.name}: {figures.cpu:.0f} us", flush=True)
    if EMPTY not in found:
        raise SystemExit(f"{EMPTY}: {absent.get(EMPTY)}")
    heads = ("CPU, us", "answers/s", "p50, ms", "p99, ms", "one client, ms", "MiB in all")
    print(f"| | {' | '.join((*heads, 'MiB, largest', 'ready, s'))} |")
    print("| --- " * 9 + "|")
    for peer in chosen:
        if peer.name in found:
            print(_row(peer.name, found[peer.name], found[EMPTY]))
        else:
            print(f"| {peer.name} | not measured: {absent[peer.name]} |")


def _row(name: str, rounds: list[Figures], empty: list[Figures]) -> str:
    cells = []
    for field in dataclasses.fields(Figures):
        values = [getattr(figures, field.name) for figures in rounds]
        others = [getattr(figures, field.name) for figures in empty]
        value = median(values)
        ratio = median([one / other for one, other in zip(values, others, strict=False) if other])
        cells.append(f"{value:.0f}" if value >= 100 else f"{value:.2f}")
        if name != EMPTY:
            cells[-1] += f" ({ratio:.2f})"
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--only", nargs="*", default=[], metavar="PEER")
    parser.add_argument("--model", choices=("small", "large", "both"), default="both")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.make:
        return make_large(wanted.make)
    need("wrk")
    wanted.cache.mkdir(parents=True, exist_ok=True)
    networks = {"small": small, "large": lambda: large(wanted.cache)}
    for name, network in networks.items():
        if wanted.model in (name, "both"):
            print(f"\n{name}:", flush=True)
            compare(network(), wanted.cache, wanted.rounds, wanted.seconds, wanted.only)
    return None


if __name__ == "__main__":
    main()
