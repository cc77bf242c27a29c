"""Bulk jobs on a real Ray cluster of one node: the same rows, whatever dies meanwhile."""

import csv
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from app.catalogue.load import SAMPLES
from tests.app.bulk_answers import DEADLY
from tests.e2e.conftest import PATIENCE, ROOT
from tests.e2e.ray_cluster import Cluster, running_cluster

pytestmark = pytest.mark.slow

# The job of a folder with made answers, as `python -m app.classify` carries it out.
PROGRAM = """
import sys
from pathlib import Path
from app.bulk.merge import merge
from app.bulk.on_ray import Cluster
from app.bulk.progress import Progress
from app.bulk.work import work_through
from tests.app import bulk_answers
from tests.app.test_bulk import IDENTITY, open_job, order_for

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
job = open_job(folder, out)
order = order_for(folder, job, getattr(bulk_answers, sys.argv[3]))
runner = Cluster(sys.argv[4], order)
work_through(job, runner, Progress(0), 60)
merge(job, out, IDENTITY)
runner.close()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}").write_bytes(f"{number % 10} is it".encode())
    return folder


def classify(out: Path, *more: str, source: Path = SAMPLES) -> list[str]:
    return ["-m", "app.classify", str(source), "--model", "cifar10/lenet", "--out", str(out), *more]


def table(path: Path) -> dict[str, str]:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    found = {row[0]: row[1] for row in rows}
    assert len(found) == len(rows)
    return found


def test_the_rows_are_those_of_a_run_without_ray_and_a_rerun_does_what_is_missing(
    cluster: Cluster, tmp_path: Path
) -> None:
    source = tmp_path / "pictures"
    shutil.copytree(SAMPLES, source)
    (source / "notes.txt").write_text("no picture")
    plain, on_ray = tmp_path / "plain.csv", tmp_path / "ray.csv"
    assert cluster.run(*classify(plain, source=source)).returncode == 1
    command = classify(on_ray, "--on", cluster.address, "--chunk-size", "3", source=source)
    done = cluster.run(*command)
    assert done.returncode == 1, done.stderr
    assert "skipped notes.txt: The file is not a picture" in done.stderr
    assert on_ray.read_bytes() == plain.read_bytes()
    (source / "notes.txt").write_bytes((SAMPLES / "cifar10/cat.png").read_bytes())
    done = cluster.run(*command)
    assert done.returncode == 0, done.stderr
    assert f"1 classified ({len(table(plain))} were done before), 0 skipped" in done.stdout
    assert set(table(on_ray)) == {*table(plain), "notes.txt"}


def test_a_node_without_the_model_gets_it_from_the_object_store(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The program's repository is renamed when it has read it, so no task finds the model there."""
    repository = tmp_path / "weights"
    place = "cifar10/lenet"
    shutil.copytree(ROOT / "weights" / place, repository / place)
    program = (
        "import sys; from pathlib import Path; from app.bulk.on_ray import Cluster; "
        "from app import classify; began = Cluster.__init__\n"
        "def begin(self, address, order):\n"
        "    began(self, address, order); Path(sys.argv[-1]).rename(sys.argv[-1] + '-gone')\n"
        "Cluster.__init__ = begin; sys.exit(classify.main(sys.argv[1:-1]))"
    )
    out = tmp_path / "results.csv"
    command = ["-c", program, *classify(out, "--on", cluster.address)[2:], str(repository)]
    done = cluster.run(*command, METAPLASTIC_WEIGHTS=str(repository))
    assert done.returncode == 0, done.stderr
    assert not repository.exists()
    assert len(table(out)) == len(list(SAMPLES.glob("*/*.png")))


def test_machines_without_this_program_stop_the_command_and_cost_no_picture_its_row(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The program runs from a copy, which is renamed when it has joined."""
    copy = tmp_path / "copy"
    for name in ("app", "models"):
        shutil.copytree(ROOT / name, copy / name)
    program = (
        "import os, sys; os.chdir(sys.argv[-1]); sys.path[0] = sys.argv[-1]\n"
        "from app.bulk.on_ray import Cluster; from app import classify; began = Cluster.__init__\n"
        "def begin(self, address, order):\n"
        "    began(self, address, order); os.rename(sys.argv[-1], sys.argv[-1] + '-gone')\n"
        "Cluster.__init__ = begin; sys.exit(classify.main(sys.argv[1:-1]))"
    )
    out = tmp_path / "results.csv"
    command = ["-c", program, *classify(out, "--on", cluster.address)[2:], str(copy)]
    done = cluster.run(*command, METAPLASTIC_WEIGHTS=str(ROOT / "weights/cifar10/lenet"))
    assert done.returncode == 2, done.stderr
    assert "No module named 'app'" in done.stderr
    assert "Each machine of the cluster needs this repository" in done.stderr
    assert not out.exists()
    done = cluster.run(*classify(out, "--on", cluster.address))
    assert done.returncode == 0, done.stderr
    assert len(table(out)) == len(list(SAMPLES.glob("*/*.png")))


def test_a_file_that_kills_its_process_is_found_and_the_rest_is_finished(
    cluster: Cluster, folder: Path, tmp_path: Path
) -> None:
    (folder / "07").write_bytes(DEADLY)
    out = tmp_path / "results.csv"
    done = cluster.run("-c", PROGRAM, str(folder), str(out), "answer", cluster.address)
    assert done.returncode == 0, done.stderr
    assert set(table(out)) == {path.name for path in folder.iterdir()} - {"07"}
    errors = table(tmp_path / "results.errors.csv")
    assert errors == {"07": "3 processes died on it (process ended)."}


def test_a_killed_process_and_a_killed_command_lose_and_double_nothing(
    cluster: Cluster, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.csv"
    command = ["-c", PROGRAM, str(folder), str(out), "unhurried", cluster.address]
    command_process = cluster.start(*command)
    os.kill(cluster.first_at_work("work_on"), signal.SIGKILL)
    wait_for_parts(out, 3)
    command_process.kill()
    command_process.communicate()
    assert not out.exists()
    done = cluster.run(*command)
    assert done.returncode == 0, done.stderr
    assert table(out) == {path.name: path.name[-1] for path in folder.iterdir()}


def wait_for_parts(out: Path, count: int) -> None:
    ends = time.monotonic() + PATIENCE
    while len(list(out.with_name(f"{out.name}.job").glob("part-*"))) < count:
        assert time.monotonic() < ends
        time.sleep(0.01)  # between two looks, not in place of one


@pytest.mark.slow
def test_when_the_head_dies_the_command_ends_and_the_same_command_goes_on(
    cluster: Cluster, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.csv"
    command = ["-c", PROGRAM, str(folder), str(out), "unhurried"]
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as place,
        running_cluster(Path(place)) as other,
    ):
        soon = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}  # and not a minute
        process = other.start(*command, other.address, **soon)
        wait_for_parts(out, 3)
        os.killpg(other.head, signal.SIGKILL)
        _, errors = process.communicate(timeout=5 * PATIENCE)
    assert process.returncode != 0, errors
    assert not out.exists()
    done = cluster.run(*command, cluster.address)
    assert done.returncode == 0, done.stderr
    assert table(out) == {path.name: path.name[-1] for path in folder.iterdir()}


@pytest.mark.parametrize("token", ["f" * 64, ""])
def test_a_wrong_token_is_refused(cluster: Cluster, tmp_path: Path, token: str) -> None:
    command = classify(tmp_path / "results.csv", "--on", cluster.address)
    done = cluster.run(*command, RAY_AUTH_TOKEN=token, HOME=str(tmp_path))  # no token is kept there
    assert done.returncode == 2
    assert f"--on {cluster.address}: the cluster cannot be joined" in done.stderr
    assert "RAY_AUTH_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results.csv").exists()
