"""Decoding in a process of its own, with limits on time and memory that no decoder can exceed.

    worker --- nursery --- helper

The helper decodes one picture at a time. The system ends it if it exceeds its processor time, its
memory or its time on the clock, and it may also crash. The nursery is a process with one thread. It
waits for the helper's end, tells the worker, and forks the next helper, which takes a few
milliseconds. A worker with threads could not fork safely.

`start` forks the nursery from the worker before the worker has any thread, and also a spare
nursery, which sleeps until the first one is gone. Then a new interpreter becomes the next spare
nursery, which takes a second, while the worker goes on. If `start` is never called (under another
server, in a command, in a test), the nursery is a new interpreter, which starts with the first
picture that needs it. Small files of simple formats are decoded in the worker itself.

Nursery and helper end with the worker, for any reason: the nursery polls the socket to the worker
as well, and on Linux the kernel ends both even if they are stopped.
"""

import atexit
import contextlib
import gc
import json
import logging
import math
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from app.errors import RequestError
from app.images.confinement import confine
from app.images.decode import Picture, made_small
from app.images.decode import decode as decode_here
from app.images.plain_png import read_plain_png
from app.images.structure import is_simple
from app.parent_process import end_with_parent
from app.telemetry.record import timed
from models.cards import ImageInput

_log = logging.getLogger("gunicorn.error")

MEBIBYTE = 1024 * 1024
_MOST_WORDS = 64 * 1024  # bytes of a message between the processes; the picture is in a file
# The worker waits for a helper for this many seconds after its time on the clock is over; if that
# time is short, for half of it, but not for less than _LEAST_GRACE.
_GRACE = 2.0
_LEAST_GRACE = 0.5
_DEATHS = 2  # helpers that may die on one picture: the first may have another cause
_LOSSES = 4  # nurseries that may be lost on one picture
_GROWN = 64 * MEBIBYTE  # a helper that has grown by this much is replaced by a new one
_SMALLEST_LEFT = 0.01  # seconds; a timer of 0 seconds would be off
_ENDED, _GREW = 0, 3  # exit statuses of a helper
_SLOW = {signal.SIGPROF, signal.SIGXCPU, signal.SIGALRM}  # signals that end it after its time
_NOTE = struct.Struct("<Qd")
_MODES = {"L": 1, "RGB": 3, "RGBA": 4}  # bytes a pixel


class Limits(NamedTuple):
    """The limits for one picture."""

    pixels: int  # width times height in the file's header
    seconds: float  # processor time
    wall: float  # seconds on the clock, which pass faster on a busy machine
    mebibytes: int  # memory beyond that of an idle helper


def start() -> None:
    """Fork a nursery and a spare one. Call this before the process has any thread."""
    global _nursery, _spare
    _nursery, _spare = _fork(), _fork()


@timed("decode")
def decode(data: bytes, target: ImageInput, limits: Limits, *, raw: bool) -> Picture:
    """Return the picture in `data`, as far as `prepare` needs it for `target`.

    Raises RequestError as `decode_here` does, 413 `too_much_work` if the picture exceeds one of the
    `limits`, and 422 `decoder_crashed`.
    """
    if (plain := read_plain_png(data, limits.pixels)) is not None:
        return Picture(plain, plain.size)
    if is_simple(data):
        smallest = (target.height, target.width)
        return decode_here(data, max_pixels=limits.pixels, smallest=smallest, simple=True)
    size = [target.height, target.width, target.channels]
    order = {
        **{"size": size, "style": target.style, "raw": raw, "pixels": limits.pixels},
        **{"seconds": limits.seconds, "wall": limits.wall, "bytes": limits.mebibytes * MEBIBYTE},
    }
    with _lock:
        return _try(order, data, limits)


def work_done() -> float:
    """Return the processor time, in seconds, of this process and of its helpers so far."""
    return time.process_time() + _helped


# In the worker -------------------------------------------------------------------------------


@dataclass
class _Nursery:
    """The socket to a nursery.

    It belongs to the process `owner`; a forked process needs its own.
    """

    sock: socket.socket
    pid: int
    owner: int
    orders: int = 0


_nursery: _Nursery | None = None
_spare: _Nursery | None = None
_lock = threading.Lock()
_helped = 0.0  # seconds


def _try(order: dict[str, Any], data: bytes, limits: Limits) -> Picture:
    """Return the picture in `data`.

    If a helper dies for an unknown reason, a second helper tries again.
    """
    ends, work_ends = time.monotonic() + limits.wall, work_done() + limits.seconds
    deaths = losses = 0
    while losses < _LOSSES:
        left = {"wall": ends - time.monotonic(), "seconds": work_ends - work_done()}
        if left["wall"] <= 0:
            raise _end_of(signal.SIGALRM, limits)
        if left["seconds"] <= 0:
            raise _end_of(signal.SIGPROF, limits)
        with _file_of(data) as file:  # a new file: a helper that died may have changed the last one
            words = _ask({**order, **left}, file)
            if not words:
                losses += 1
            elif died := words.get("died"):
                deaths += 1
                if died in _SLOW or deaths == _DEATHS:
                    raise _end_of(died, limits)
            elif refusal := words.get("refusal"):
                raise RequestError(*refusal[:3], **refusal[3])
            else:
                return _picture(words, file)
    raise RequestError(
        503, "decoder_unavailable", "Pictures cannot be decoded at the moment. Try again."
    )


def _ask(order: dict[str, Any], file: int) -> dict[str, Any]:
    """Return the helper's answer about the picture in `file`, or {} if the nursery is gone."""
    global _helped
    nursery = _living_nursery()
    nursery.orders += 1
    text = json.dumps({**order, "order": nursery.orders}).encode()
    grace = min(_GRACE, max(_LEAST_GRACE, order["wall"] / 2))
    deadline = time.monotonic() + order["wall"] + grace
    try:
        nursery.sock.settimeout(None)
        socket.send_fds(nursery.sock, [text], [file])
        while True:
            nursery.sock.settimeout(max(_SMALLEST_LEFT, deadline - time.monotonic()))
            words: dict[str, Any] = json.loads(nursery.sock.recv(_MOST_WORDS) or b"{}")
            if not words:
                break
            if words["order"] == nursery.orders:
                _helped += words["seconds"]
                return words
    except TimeoutError:
        _give_up()
        return {"died": int(signal.SIGALRM)}
    except (OSError, ValueError):
        pass
    _give_up()
    return {}


def _living_nursery() -> _Nursery:
    """Return the nursery, or the spare one; then the next spare one is started."""
    global _nursery, _spare
    if _nursery is None or _nursery.owner != os.getpid():
        if _spare and _spare.owner == os.getpid():
            _nursery, _spare = _spare, _start_apart()
        else:
            _nursery = _start_apart()
    return _nursery


def _fork() -> _Nursery:
    """Return a nursery forked from this process, which has one thread."""
    ours, theirs = socket.socketpair()
    worker = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            end_with_parent(worker)
            _serve(theirs)
        finally:
            os._exit(1)
    theirs.close()
    return _Nursery(ours, pid, worker)


def _start_apart() -> _Nursery:
    """Return a nursery in a new interpreter, since this process may have threads."""
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    place = str(Path(__file__).resolve().parents[2])
    paths = [place, *filter(None, [os.environ.get("PYTHONPATH")])]
    # The kernel reports the end of the thread that started a process as the end of its parent.
    worker = os.getpid() if threading.current_thread() is threading.main_thread() else 0
    program = f"from app.images import sandbox; sandbox.serve({theirs.fileno()}, {worker})"
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", program],
        {**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    theirs.close()
    return _Nursery(ours, pid, os.getpid())


def _give_up() -> None:
    """End a nursery that does not answer; its helper ends with it."""
    global _nursery
    nursery, _nursery = _nursery, None
    if nursery is None:
        return
    nursery.sock.close()
    if nursery.owner == os.getpid():
        with contextlib.suppress(OSError):
            os.kill(nursery.pid, signal.SIGKILL)
            os.waitpid(nursery.pid, 0)


@atexit.register
def _leave() -> None:
    """Close the sockets to the nurseries, which then end with their helpers."""
    for nursery in filter(None, (_nursery, _spare)):
        nursery.sock.close()


@contextlib.contextmanager
def _file_of(data: bytes) -> Iterator[int]:
    """Yield the descriptor of a file with `data`, in memory if the system has memfd."""
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("picture")
    else:
        with tempfile.TemporaryFile() as file:
            number = os.dup(file.fileno())
    try:
        view = memoryview(data)
        written = 0
        while written < len(data):
            written += os.pwrite(number, view[written:], written)
        yield number
    finally:
        os.close(number)


def _picture(words: dict[str, Any], file: int) -> Picture:
    """Return the picture that the helper has written to `file`; its content cannot be trusted."""
    width, height = words["size"]
    steps = tuple(map(str, words["steps"]))
    if shape := words.get("shape"):
        values = np.frombuffer(os.pread(file, 4 * math.prod(shape), 0), "<f4")
        blank = Image.new("L", (1, 1))
        return Picture(blank, (width, height), steps, values.reshape(shape).copy())
    mode, size = words["mode"], tuple(words["image"])
    content = os.pread(file, _MODES[mode] * math.prod(size), 0)
    return Picture(Image.frombytes(mode, size, content), (width, height), steps)


def _end_of(number: int, limits: Limits) -> RequestError:
    """Return the error for a helper that was ended by the signal `number`."""
    if number == signal.SIGALRM:
        message = (
            "The picture was not decoded in the time that is left for the request's images. "
            "The server may be busy: try again, or send fewer or smaller images."
        )
        return RequestError(413, "too_much_work", message)
    if number in _SLOW:
        message = (
            f"The picture takes more than the {limits.seconds:.3g} seconds of processor time that "
            "are left for it. Send fewer or smaller images."
        )
        return RequestError(413, "too_much_work", message)
    if number == signal.SIGKILL:  # by the system, when memory is short
        message = "The picture takes more memory than is available. Send it smaller."
        return RequestError(413, "too_much_work", message)
    _log.warning("a picture ended the process that decoded it (signal %d)", number)
    message = "The decoder crashed on the picture, which is damaged. Save or send it again."
    return RequestError(422, "decoder_crashed", message)


# In the nursery ------------------------------------------------------------------------------


def serve(number: int, worker: int) -> None:
    """Run as the nursery at the other end of the socket `number`.

    `worker` is the parent process, with which the nursery ends. If it is 0, only the end of the
    socket ends the nursery.
    """
    if worker:
        end_with_parent(worker)
    _serve(socket.socket(fileno=number))


def _serve(sock: socket.socket) -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(name, signal.SIG_IGN)  # it ends with the worker only
    for name in (signal.SIGUSR2, signal.SIGCHLD, signal.SIGALRM, signal.SIGPROF):
        signal.signal(name, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _close_all_but(sock.fileno())
    # Shared with the helper: the number of its current order, and its processor time at the start.
    note = mmap.mmap(-1, _NOTE.size)
    gc.collect()
    gc.freeze()  # a collection would write to every shared page, and so copy it
    select.select([sock], [], [])  # a spare nursery sleeps until its first order
    while True:
        born = time.monotonic()
        pid, alive = _fork_helper(sock, note)
        _wait_for_end(sock, alive)
        if _closed(sock):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os._exit(0)
        _, status, usage = os.wait4(pid, 0)
        order, began = _NOTE.unpack(note[:])
        note[:] = bytes(_NOTE.size)
        if order:
            died = os.WTERMSIG(status) if os.WIFSIGNALED(status) else int(signal.SIGABRT)
            seconds = max(0.0, usage.ru_utime + usage.ru_stime - began)
            sock.sendall(json.dumps({"order": order, "died": died, "seconds": seconds}).encode())
        elif time.monotonic() - born < _SMALLEST_LEFT:
            time.sleep(_SMALLEST_LEFT)  # helpers fail at their start: do not fork at full speed


def _fork_helper(sock: socket.socket, note: mmap.mmap) -> tuple[int, int]:
    """Return a new helper's process id, and a pipe that closes when the helper ends."""
    nursery = os.getpid()
    alive, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(alive)
            end_with_parent(nursery)
            _help(sock, note)
        finally:
            os._exit(1)
    os.close(held)
    return pid, alive


def _wait_for_end(sock: socket.socket, alive: int) -> None:
    """Wait for the end of the helper, which holds the other end of `alive`, or of the worker."""
    poller = select.poll()
    poller.register(sock, 0)  # a closed socket is reported even for no events
    poller.register(alive, 0)
    poller.poll()
    os.close(alive)


def _closed(sock: socket.socket) -> bool:
    """Return whether the worker has closed its end of the socket."""
    poller = select.poll()
    poller.register(sock, 0)
    return bool(poller.poll(0))


def _close_all_but(kept: int) -> None:
    """Close the worker's port, connections and files, and discard the output of C libraries."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = 65_536 if most == resource.RLIM_INFINITY else most
    os.closerange(3, kept)
    os.closerange(kept + 1, most)


# In the helper -------------------------------------------------------------------------------


def _help(sock: socket.socket, note: mmap.mmap) -> None:
    confine()
    held = _most_held()
    room = _address_space()
    while True:
        text, files, _, _ = socket.recv_fds(sock, _MOST_WORDS, 1)
        if not text:
            os._exit(_ENDED)
        order = json.loads(text)
        started = time.process_time()
        note[:] = _NOTE.pack(order["order"], started)
        _limit(order, room)
        words = _obey(order, files[0])
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        words |= {"order": order["order"], "seconds": time.process_time() - started}
        note[:] = bytes(_NOTE.size)
        sock.sendall(json.dumps(words).encode())
        os.close(files[0])
        if _most_held() > held + _GROWN:
            os._exit(_GREW)


def _obey(order: dict[str, Any], file: int) -> dict[str, Any]:
    """Decode the picture in `file`, and write the result to `file`."""
    height, width, channels = order["size"]
    target = ImageInput(height, width, channels, order["style"], (), ())
    try:
        data = os.pread(file, os.fstat(file).st_size, 0)
        picture = decode_here(
            data,
            max_pixels=order["pixels"],
            smallest=(height, width),
            max_bytes=order["bytes"] - len(data),
        )
        picture = made_small(picture, target, raw=order["raw"])
    except RequestError as error:
        return {"refusal": [error.status, error.code, error.message, error.details]}
    except MemoryError:
        message = "The picture takes more memory than one picture may. Send it smaller."
        return {"refusal": [413, "too_much_work", message, {}]}
    words: dict[str, Any] = {"size": picture.size, "steps": picture.steps}
    if picture.pixels is not None:
        os.pwrite(file, np.ascontiguousarray(picture.pixels, "<f4").tobytes(), 0)
        return {**words, "shape": picture.pixels.shape}
    os.pwrite(file, picture.image.tobytes(), 0)
    return {**words, "mode": picture.image.mode, "image": picture.image.size}


def _limit(order: dict[str, Any], room: int) -> None:
    """Have the system end this process if it takes more than `order` allows."""
    seconds = max(_SMALLEST_LEFT, order["seconds"])
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, order["wall"])
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds) + 1, most))
    if room:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        wanted = room + order["bytes"]
        if most != resource.RLIM_INFINITY:
            wanted = min(wanted, most)
        resource.setrlimit(resource.RLIMIT_AS, (wanted, most))


def _address_space() -> int:
    """Return the bytes of this process's address space; 0 if the system does not tell."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    return 0


def _most_held() -> int:
    """Return the most bytes of memory that this process has held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
