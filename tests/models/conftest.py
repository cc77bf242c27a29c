import fcntl
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from models.__main__ import main


def write_made_digits(folder, train_per_class=30, test_per_class=10):
    """An mnist.npz whose classes are noisy prototypes: quick to learn, and not real data."""
    random = np.random.default_rng(11)
    prototypes = random.integers(0, 2, (10, 7, 7)).repeat(4, axis=1).repeat(4, axis=2) * 200

    def images(per_class):
        labels = np.repeat(np.arange(10, dtype=np.uint8), per_class)
        noise = random.integers(0, 56, (len(labels), 28, 28))
        return (prototypes[labels] + noise).astype(np.uint8), labels

    (x_train, y_train), (x_test, y_test) = images(train_per_class), images(test_per_class)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    np.savez(folder / "mnist.npz", **arrays)


@pytest.fixture(scope="session")
def made_data(tmp_path_factory):
    """A folder for METAPLASTIC_DATA with a small made mnist.npz."""
    folder = tmp_path_factory.mktemp("data")
    write_made_digits(folder)
    return folder


@pytest.fixture
def on_made_data(made_data, monkeypatch):
    monkeypatch.setenv("METAPLASTIC_DATA", str(made_data))


RULES = ("metaplastic", "backprop")


@pytest.fixture(scope="session")
def runs(made_data, tmp_path_factory):
    """Finished runs on the made data, by rule: LeNet, 8 epochs, same seed.

    The first process that needs them trains them; every process has a copy of its own.
    """
    folder = tmp_path_factory.mktemp("runs")
    in_parallel = "PYTEST_XDIST_WORKER" in os.environ
    shared = folder.parent.parent if in_parallel else folder.parent
    with (shared / "runs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "trained").exists():
            train_runs(made_data, folder / "new")
            (folder / "new").rename(shared / "trained")
    shutil.copytree(shared / "trained", folder, dirs_exist_ok=True)
    return {rule: next(folder.glob(f"mnist-lenet-{rule}-*")) for rule in RULES}


def train_runs(data, root):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAPLASTIC_DATA", str(data))
        for rule in RULES:
            command = ["train", "mnist", "lenet", "--rule", rule, "--runs", str(root)]
            settings = ["--epochs", "8", "--batch-size", "8", "--validation", "0.2"]
            settings += ["--set", "learning_rate=0.01"]
            assert main([*command, *settings]) == 0


class FileServer(ThreadingHTTPServer):
    """Serves `content`, at most `most` bytes a connection, and parts of it if it `ranges`.

    It tells the content's `length`, or not.
    """

    def __init__(self, content, most=None, ranges=True, status=None, length=True):
        super().__init__(("127.0.0.1", 0), FileHandler)
        self.content, self.most = content, most or len(content)
        self.ranges, self.status, self.length = ranges, status, length
        self.asked = []  # the Range header of each request

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file.zip"


class FileHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        if self.server.status is not None:
            self.send_error(self.server.status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        start = start if self.server.ranges else 0
        if start >= len(self.server.content):
            self.send_error(416)
            return
        rest = self.server.content[start:]
        self.send_response(206 if start else 200)
        if self.server.length:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.most])

    def log_message(self, *words):
        pass


@pytest.fixture
def serve():
    """A real HTTP server for a file's `content`; see FileServer for how it may behave."""
    servers = []

    def start(content, **how):
        server = FileServer(content, **how)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
