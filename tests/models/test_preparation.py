"""Batches that processes prepare, as on a computer with many cores."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Prints a checksum of the batches of two epochs, then how many processes prepare them, then waits.
PROGRAM = """
import hashlib, os, sys
os.cpu_count = lambda: int(sys.argv[1])
if __name__ == "__main__":
    import numpy as np
    from models.data.batches import TrainingBatches
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (300, 32, 32, 3), np.uint8)
    augmentations = {"flip": 0.5, "shift": 4, "trivial": 0.7, "photographed": 0.5, "mixup": 0.2}
    batches = TrainingBatches(images, np.arange(300) % 10, 10, 64, 7, augmentations)
    digest = hashlib.sha256()
    for epoch in range(2):
        batches.start_epoch(epoch)
        for index in range(len(batches)):
            for array in batches[index]:
                digest.update(array.tobytes())
    print(digest.hexdigest(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def started(tmp_path):
    """Start the program as on a computer with so many cores. It ends with the test."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    running = []

    def start(cores):
        process = subprocess.Popen(
            [sys.executable, str(program), str(cores)],
            env={**os.environ, "PYTHONPATH": "."},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process, process.stdout.readline()

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_processes_prepare_the_same_batches_as_a_thread(started):
    alone, expected = started(2)
    beside, found = started(4)
    assert len(expected) == 65
    assert found == expected
    assert not children(alone.pid)
    assert children(beside.pid)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_training(started, how):
    training, _ = started(4)
    workers = children(training.pid)
    assert workers
    training.send_signal(how)
    training.wait()
    end = time.monotonic() + 20
    while any(map(lives, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(lives, workers))


def children(pid):
    """Return the processes that this one has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [child for task in tasks for child in (task / "children").read_text().split()]


def lives(pid):
    """Return whether the process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
