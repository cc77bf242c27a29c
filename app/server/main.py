"""`python wsgi.py`: gunicorn with the service's configuration."""

import gc
import logging
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gunicorn.util
import numpy.ma  # noqa: F401  np.median imports it at its first use, perhaps without a free file
from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from app import create_app
from app.catalogue.catalogue import Catalogue, FileState, RepositoryError
from app.catalogue.load import alias_states
from app.errors import RequestError, http_bytes
from app.images import sandbox
from app.runtime import Progress, memory_folder, runtime_folder
from app.server.arbiter import GracefulArbiter, heed_sigterm
from app.server.balance import Balance
from app.server.reload import mended, reread
from app.server.threaded import THREADS, ThreadedWorker
from app.server.worker import PollingWorker
from app.settings import EVERYWHERE, Settings, StartError, takes_cloud_port
from app.telemetry.logs import escape_commands
from models.terminal import say

BAD_CONFIGURATION = 2  # exit status
HAS_EPOLL = hasattr(select, "epoll")
_MOST_FILES = 10240  # macOS allows this many open files but reports no limit
_LONGEST_PAUSE = 600.0  # seconds between two checks of models that were left out

_log = logging.getLogger("gunicorn.error")


def main() -> None:
    """Serve until a signal ends the service. Exits with status 2 if it cannot start."""
    escape_commands()
    gunicorn.util.write_error = _write_error
    _open_many_connections()
    try:
        settings = Settings.from_environment(os.environ)
        if takes_cloud_port(os.environ):
            where = f"{settings.host} port {settings.port}"
            say(f"METAPLASTIC_PORT is not set, so PORT is used: listening on {where}.")
        if not HAS_EPOLL:
            say(
                "This system has no epoll. gunicorn's threaded worker is used, which handles slow "
                "clients less well: see docs/operations.md."
            )
        _check_port(settings)
        with runtime_folder(memory_folder()):
            Server(settings, create_app(settings)).run()
    except StartError as error:
        say(error, sys.stderr)
        sys.exit(BAD_CONFIGURATION)


class Server(BaseApplication):
    """gunicorn's application, complete before the workers are forked.

    The workers share its memory, and a model repository without a usable model prevents the start.
    Only the models' sessions belong to each worker, and most are opened by the first request to
    their model.
    """

    def __init__(self, settings: Settings, application: Flask) -> None:
        self.settings = settings
        self.application = self.former = application
        self.progress = Progress()
        self.balance = Balance()
        self.answered: set[str] = set()  # models that have run: see app/server/reload.py
        self.served = False  # whether a worker has ever accepted requests
        self.must_answer = False  # whether new workers end if the default model cannot run
        self.pause = 0.0  # seconds between two checks of the models that were left out
        self.next_look = 0.0  # time of the next check, on the monotonic clock
        self.aliases_of: Catalogue | None = None  # the catalogue that `aliases` is about
        self.aliases: Mapping[Path, FileState] = {}  # the files of aliases, as seen last
        super().__init__()

    def load_config(self) -> None:
        for name, value in _configuration(self.settings).items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self.application

    @property
    def catalogue(self) -> Catalogue:
        """Return the models that new workers serve."""
        found: Catalogue = self.application.extensions["catalogue"]
        return found

    def reload(self) -> None:
        """Read the model repository again, for new workers. The settings stay.

        Raises StartError if it cannot be served; then nothing has changed.
        """
        application = reread(self.settings, self.catalogue, self.answered)
        self.former, self.application = self.application, application
        self.callable = application
        if self.catalogue.passing != self.former.extensions["catalogue"].passing:
            self.pause = 0.0
        _share()

    def restore(self) -> None:
        """Undo the last reload."""
        self.application = self.callable = self.former

    def report(self) -> None:
        """Print what is served."""
        self.former = self.application  # frees the application before the reload
        say(_announcement(self.settings, self.catalogue))
        for problem in self.catalogue.left_out.values():
            _log.error("model left out: %s", problem)
        for problem in self.catalogue.alias_problems:
            _log.error("%s", problem)

    def aliases_changed(self) -> bool:
        """Return whether a model's aliases have changed since the last call or the last reload."""
        if self.aliases_of is not self.catalogue:
            self.aliases_of, self.aliases = self.catalogue, self.catalogue.alias_files
        now = alias_states(self.aliases)
        changed = now != self.aliases
        self.aliases = now  # so that a reload that fails is not tried for ever
        return changed

    def mended(self) -> bool:
        """Return whether a model that was left out can be served now.

        The models are checked after a pause that doubles.
        """
        if not self.catalogue.passing or time.monotonic() < self.next_look:
            return False
        self.pause = min(2 * self.pause, _LONGEST_PAUSE) or 1.0
        self.next_look = time.monotonic() + self.pause
        return mended(self.settings, self.catalogue, self.answered)

    def run(self) -> None:
        try:
            GracefulArbiter(self).run()
        except HaltServer as halt:  # raised if two workers fail to boot
            sys.exit(halt.exit_status)


def _configuration(settings: Settings) -> dict[str, Any]:
    """Return gunicorn's settings."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return {
        "bind": f"{host}:{settings.port}",
        "workers": settings.workers,
        "worker_class": PollingWorker if HAS_EPOLL else ThreadedWorker,
        # PollingWorker has one thread; only the threaded worker uses this setting.
        "threads": 1 if HAS_EPOLL else THREADS,
        "keepalive": settings.keep_alive,
        "worker_connections": settings.max_connections,
        "timeout": settings.timeout,
        "graceful_timeout": settings.graceful_timeout,
        "loglevel": settings.log_level,
        "proc_name": "metaplastic",
        "preload_app": True,
        # The workers' heartbeat is a file in memory, so that a slow or read-only disk has no
        # effect.
        "worker_tmp_dir": memory_folder(),
        "control_socket_disable": True,
        # METAPLASTIC_PROXIES decides which proxies are trusted, and not gunicorn.
        "forwarded_allow_ips": "",
        "when_ready": _when_ready,
        "post_worker_init": _make_ready,
        "child_exit": _keep_counts,
    }


def _when_ready(arbiter: Arbiter) -> None:
    """Report what is served. The port is open, and the workers are about to be forked."""
    arbiter.app.report()
    _share()


def _share() -> None:
    """Prepare the memory for sharing with forked workers."""
    gc.unfreeze()  # lets the collector free the application before a reload
    gc.collect()
    gc.freeze()  # a collection would write to every shared page, and so copy it


def _announcement(settings: Settings, catalogue: Catalogue) -> str:
    """Return the loaded models, their folder, and the service's URL."""
    # A browser cannot open 0.0.0.0, and localhost is easier to read than 127.0.0.1.
    everywhere = settings.host in (EVERYWHERE, "::", "127.0.0.1")
    host = "localhost" if everywhere else settings.host
    host = f"[{host}]" if ":" in host else host
    lines = [f"Metaplastic: {sum(1 for _ in catalogue)} models from {catalogue.root}"]
    for endpoint in catalogue.endpoints.values():
        for model in endpoint:
            card, mark = model.card, "(default)" if model is endpoint.find() else ""
            score = f"{card.test.accuracy:8.2%}" if card.test else ""
            lines.append(
                f"  {endpoint.path:28} {card.rule:12} v{card.version:<4} {score} {mark}".rstrip()
            )
    lines.append(f"Serving on http://{host}:{settings.port} with {settings.workers} workers")
    return "\n".join(lines)


def _make_ready(worker: Any) -> None:
    """Prepare a new worker before it accepts its first request."""
    sandbox.start()  # forks, so it comes before anything that starts a thread
    heed_sigterm()
    worker.app.application.extensions["worker"] = worker
    if feedback := worker.app.application.extensions.get("feedback"):
        feedback.start()  # what has expired is deleted even if nobody asks for anything
    server: Server = worker.app
    try:
        server.catalogue.open_first_sessions()
    except RepositoryError as error:
        if not server.served:
            worker.log.error("%s", error)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
    # During a reload: the former workers stay if the new ones cannot run the default model.
    if server.must_answer and server.catalogue.default.find().problem:
        sys.exit(Arbiter.WORKER_BOOT_ERROR)


def _keep_counts(arbiter: Arbiter, worker: Any) -> None:
    """Keep the counts of a worker that has ended."""
    from app.telemetry.metrics import keep_counts_of

    arbiter.app.balance.note(worker.age, idle=False, held=0)
    keep_counts_of(worker.pid)


def _write_error(connection: Any, status: int, reason: str, message: str) -> None:
    """Answer a request that is not HTTP with JSON; gunicorn's own answer is HTML."""
    code = reason.lower().replace(" ", "_")
    connection.sendall(http_bytes(RequestError(status, code, message or reason)))


def _open_many_connections() -> None:
    """Raise the limit on open files to the most that the system allows this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if most == resource.RLIM_INFINITY else most
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _check_port(settings: Settings) -> None:
    """Raise StartError if the port is not free. gunicorn would try for five seconds."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        # gunicorn's IPv6 socket on every interface takes IPv4 connections as well.
        both = settings.host == "::" and socket.has_dualstack_ipv6()
        address = settings.host, settings.port
        socket.create_server(address, family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise StartError(
            f"Cannot listen on {settings.host} port {settings.port} ({error.strerror}). "
            "Stop what uses it, or choose another with METAPLASTIC_HOST and METAPLASTIC_PORT."
        ) from error
