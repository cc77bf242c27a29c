"""Bulk jobs on this machine: nothing is lost and nothing is doubled, whatever dies meanwhile."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.bulk import work
from app.bulk.answers import Answer, ModelFile, Order
from app.bulk.job import About, Job, folder_of
from app.bulk.merge import errors_path, merge
from app.bulk.parts import part_numbers, part_path, read_part, write_part
from app.bulk.processes import Processes
from app.bulk.progress import Progress
from app.bulk.sources import Listed, Source, find_source, pictures_in, read_picture
from app.bulk.tables import COLUMNS, Identity, Row, finished_rows
from app.catalogue.load import SAMPLES
from app.classify import main
from app.settings import Settings, StartError
from tests.app.bulk_answers import DEADLY, answer, stuck
from tests.app.made import LENET

ROOT = Path(__file__).parents[2]
IDENTITY = Identity("model", "1")
SEVEN = SAMPLES / "mnist/seven.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty files whose first byte is their last digit."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}").write_bytes(f"{number % 10} is it".encode())
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def open_job(folder: Path, out: Path, sha256: str = "0") -> Job:
    source = Source("folder", str(folder))
    job = Job(out, About(f"folder {folder}", *IDENTITY, "model.onnx", sha256))
    done = (row[0] for row in finished_rows(out, IDENTITY))
    job.plan(pictures_in(source), done, os.fsdecode, 3)
    return job


def order_for(folder: Path, job: Job, answers: Answer = answer) -> Order:
    model = ModelFile(LENET, "model.onnx", "0")
    return Order(Source("folder", str(folder)), job.folder, model, Settings(), answers)


def carry_out(
    folder: Path, out: Path, answers: Answer = answer, patience: float = 60.0, processes: int = 2
) -> None:
    """Carry out the job of `folder` in processes of their own, and fill the table."""
    job = open_job(folder, out)
    runner = Processes(order_for(folder, job, answers), processes)
    try:
        work.work_through(job, runner, Progress(20), patience)
        merge(job, out, IDENTITY)
    finally:
        runner.close()
        job.close()


def table(path: Path) -> dict[str, str]:
    """Return the second column of a table by its first. Every first one is there once."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    found = {row[0]: row[1] for row in rows}
    assert len(found) == len(rows)
    return found


def all_of(folder: Path) -> dict[str, str]:
    return {path.name: path.name[-1] for path in folder.iterdir()}


def test_every_chunk_becomes_a_part_and_all_parts_the_table_in_its_order(
    folder: Path, out: Path
) -> None:
    carry_out(folder, out)
    assert table(out) == all_of(folder)
    assert list(table(out)) == sorted(all_of(folder))
    assert part_numbers(folder_of(out)) == set()
    assert not errors_path(out).exists()


def test_a_part_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    def rows() -> Iterator[Row]:
        yield Row("a", "1")
        assert part_numbers(tmp_path) == set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_part(tmp_path, 7, rows())
    assert part_numbers(tmp_path) == set()
    rows = [Row("a\nb", "1"), Row('"', error="no"), Row("n" * 200_000, "1")]
    for _ in range(2):
        write_part(tmp_path, 7, rows)
    assert read_part(tmp_path, 7, ["a\nb"]) == rows
    assert part_numbers(tmp_path) == {7}


def test_a_killed_command_goes_on_with_the_chunks_that_are_missing(folder: Path, out: Path) -> None:
    job = open_job(folder, out)
    first, second = job.numbers()[:2]
    before = [Row("00", "from before"), Row("01", "1"), Row("02", "2")]
    write_part(job.folder, first, before)
    (job.folder / ".part-00000002.machine.1.partial").write_text("half a row")
    assert job.pictures([first]) == 17
    job.close()
    carry_out(folder, out)
    assert table(out) == all_of(folder) | {"00": "from before"}
    assert not list(folder_of(out).glob(".*partial"))
    assert second not in part_numbers(folder_of(out))


def test_a_kill_between_the_table_and_the_removal_of_the_parts_doubles_nothing(
    folder: Path, out: Path, tmp_path: Path
) -> None:
    job = open_job(folder, out)
    runner = Processes(order_for(folder, job), 2)
    work.work_through(job, runner, Progress(20), 60)
    runner.close()
    before = shutil.copytree(job.folder, tmp_path / "before")
    merge(job, out, IDENTITY)
    job.close()
    shutil.rmtree(job.folder)
    before.rename(job.folder)
    carry_out(folder, out)
    assert table(out) == all_of(folder)


def test_new_files_become_new_chunks_and_lost_ones_are_left_out(folder: Path, out: Path) -> None:
    open_job(folder, out).close()
    (folder / "20").write_text("0")
    (folder / "05").unlink()
    carry_out(folder, out)
    assert table(out) == all_of(folder)
    before = out.read_bytes()
    (folder / "21").write_text("1")
    carry_out(folder, out)
    assert out.read_bytes().startswith(before)
    assert table(out) == all_of(folder)


def test_a_file_that_kills_its_process_is_found_and_the_rest_is_finished(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "07").write_bytes(DEADLY)
    carry_out(folder, out)
    expected = all_of(folder)
    del expected["07"]
    assert table(out) == expected
    assert table(errors_path(out)) == {"07": "3 processes died on it (process ended: SIGKILL)."}
    (folder / "07").write_text("7")
    carry_out(folder, out)
    assert table(out) == all_of(folder)
    assert not errors_path(out).exists()


def test_without_progress_it_says_so_and_stops(folder: Path, out: Path) -> None:
    with pytest.raises(StartError, match=r"No chunk was finished for 0\.5 s, with 2 processes"):
        carry_out(folder, out, stuck, patience=0.5)
    carry_out(folder, out)
    assert table(out) == all_of(folder)


def test_another_model_other_bytes_and_another_source_are_refused(
    folder: Path, out: Path, tmp_path: Path
) -> None:
    open_job(folder, out).close()
    with pytest.raises(StartError, match="its sha256 is 0, not 1"):
        open_job(folder, out, sha256="1")
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(StartError, match=r"its source is folder .*pictures, not folder .*other"):
        open_job(other, out)
    carry_out(folder, out)
    assert table(out) == all_of(folder)


def test_a_start_that_fails_ties_the_table_to_nothing(folder: Path, out: Path) -> None:
    """As when a picture was given in the place of a folder."""

    def torn() -> Iterator[Listed]:
        yield Listed("00")
        raise StartError("not a list of paths")

    job = Job(out, About("list photo.png", *IDENTITY, "model.onnx", "0"))
    with pytest.raises(StartError, match="not a list"):
        job.plan(torn(), (), os.fsdecode, 3)
    job.close()
    carry_out(folder, out)
    assert table(out) == all_of(folder)


@pytest.mark.parametrize(
    "damage",
    [b"", b'"00","0","0.500000","true",""\r\n', b'"00","0"\r\n', b"\xff\xfe", b'"08","x","","",""'],
)
def test_a_damaged_part_is_told_and_done_again(folder: Path, out: Path, damage: bytes) -> None:
    job = open_job(folder, out)
    part = part_path(job.folder, job.numbers()[0])
    part.write_bytes(damage)
    job.close()
    with pytest.raises(StartError, match=r"part-00000001 was damaged .* Run the same command"):
        carry_out(folder, out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["pictures", "results.csv.job"]
    carry_out(folder, out)
    assert table(out) == all_of(folder)


def test_parts_of_a_job_whose_file_is_gone_or_whose_chunk_was_halved_count_for_nothing(
    folder: Path, out: Path
) -> None:
    job = open_job(folder, out)
    chunk = job.chunk(job.numbers()[1])
    write_part(job.folder, job.numbers()[0], [Row(f"{n:02}", "old") for n in range(3)])
    job.close()
    (job.folder / "job.sqlite").unlink()
    job = open_job(folder, out)
    assert part_numbers(job.folder) == set()
    job.halve(chunk)
    runner = Processes(order_for(folder, job), 2)
    work.work_through(job, runner, Progress(20), 60)
    runner.close()
    write_part(job.folder, chunk.number, [Row(one.name, "late") for one in chunk.pictures])
    merge(job, out, IDENTITY)
    job.close()
    assert table(out) == all_of(folder)


def test_two_commands_do_not_fill_the_same_table(folder: Path, out: Path) -> None:
    job = open_job(folder, out)
    with pytest.raises(StartError, match="Another process already fills"):
        open_job(folder, out)
    job.close()
    open_job(folder, out).close()


def test_a_job_that_cannot_be_read_says_what_to_do(folder: Path, out: Path) -> None:
    carry_out(folder, out)
    before = out.read_bytes()
    (folder_of(out) / "job.sqlite").write_text("not a database" * 100)
    with pytest.raises(StartError, match=r"Remove the folder .*results\.csv\.job"):
        open_job(folder, out)
    shutil.rmtree(folder_of(out))
    carry_out(folder, out)
    assert out.read_bytes() == before


@pytest.mark.slow
def test_fifty_kills_at_random_moments_lose_nothing_and_double_nothing(
    tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(900):
        (folder / f"{number:04}").write_bytes(f"{number % 10} is it".encode())
    chance, kills, errors = random.Random(27), 0, tmp_path / "errors"
    program = (
        "import sys; from pathlib import Path; from tests.app.test_bulk import carry_out; "
        "from tests.app.bulk_answers import unhurried; "
        "carry_out(Path(sys.argv[1]), Path(sys.argv[2]), unhurried)"
    )
    command = [sys.executable, "-c", program, str(folder), str(out)]
    while kills < 50:
        with errors.open("w") as file:
            process = subprocess.Popen(command, cwd=ROOT, stderr=file)
        ends = time.monotonic() + chance.uniform(0.3, 1.5)
        while kills < 50 and process.poll() is None:
            if time.monotonic() > ends:
                kills += 1
                below = children_of(process.pid)
                if not below or chance.random() < 0.3:
                    process.kill()
                    break
                os.kill(chance.choice(below), signal.SIGKILL)
                ends = time.monotonic() + chance.uniform(0.05, 0.5)
            time.sleep(0.01)
        assert process.wait(60) in (0, -signal.SIGKILL), errors.read_text()
        if out.exists():  # all was done before fifty kills: again from the beginning
            assert table(out) == all_of(folder)
            out.unlink()
    carry_out(folder, out)
    assert table(out) == all_of(folder)
    assert not errors_path(out).exists()


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a process of its parent's end"
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_command_leaves_no_process_even_if_that_is_stuck(
    folder: Path, out: Path, number: signal.Signals
) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.app.test_bulk import carry_out; "
        "from tests.app.bulk_answers import stuck; "
        "carry_out(Path(sys.argv[1]), Path(sys.argv[2]), stuck)"
    )
    command = [sys.executable, "-c", program, str(folder), str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    ends = time.monotonic() + 60
    while len(below := children_of(process.pid)) < 4:  # two at work, who forks, who cleans up
        assert time.monotonic() < ends
        time.sleep(0.01)  # between two looks, not in place of one
    process.send_signal(number)
    _, told = process.communicate(timeout=60)  # at the end of all that hold its stderr
    assert (process.returncode, told) == (-number, "")
    while any(Path(f"/proc/{one}").exists() for one in below):
        assert time.monotonic() < ends
        time.sleep(0.01)  # between two looks, not in place of one


def children_of(pid: int) -> list[int]:
    """Return the processes below `pid` that work on chunks."""
    found = []
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        try:
            below = Path(f"/proc/{one}/task/{one}/children").read_text().split()
        except OSError:
            continue
        waiting += map(int, below)
        found += map(int, below)
    return found


# Sources ---------------------------------------------------------------------------------------


def source_of(kind: str, tmp_path: Path) -> str:
    """Make a source of one seven and one file that is no picture, and return its name."""
    seven, notes = SEVEN.read_bytes(), b"no picture"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "seven.png").write_bytes(seven)
    (folder / "notes.txt").write_bytes(notes)
    if kind == "fsspec":
        pytest.importorskip("fsspec")
        return f"file://{folder}"
    path = tmp_path / f"pictures.{kind}"
    if kind == "txt":
        path.write_text(f"folder/seven.png\n\n{folder / 'notes.txt'}\r\n")
    elif kind == "tar":
        with tarfile.open(path, "w") as archive:
            archive.add(folder, "folder")
    elif kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(folder / "seven.png", "folder/seven.png")
            archive.writestr("empty/", "")
            archive.write(folder / "notes.txt", "folder/notes.txt")
    elif kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = pyarrow.table({"number": [1, 2], "image": [seven, notes]})
        parquet.write_table(rows, path, row_group_size=1)
    else:
        return str(folder)
    return str(path)


@pytest.mark.parametrize("kind", ["folder", "txt", "tar", "zip", "parquet", "fsspec"])
def test_the_pictures_of_every_source_are_classified(
    kind: str, tmp_path: Path, out: Path, lenets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAPLASTIC_WEIGHTS", str(lenets))
    source = source_of(kind, tmp_path)
    assert main([source, "--model", "mnist/lenet", "--out", str(out)]) == 1
    (label,) = table(out).values()
    (error,) = table(errors_path(out)).values()
    assert label == "7"
    assert error.startswith("The file is not a picture")


def test_a_table_in_parquet_has_numbers_and_can_be_continued(
    tmp_path: Path, lenets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("METAPLASTIC_WEIGHTS", str(lenets))
    out, source = tmp_path / "results.parquet", source_of("folder", tmp_path)
    command = [source, "--model", "mnist/lenet", "--out", str(out)]
    assert main(command) == 1
    shutil.copy(SAMPLES / "mnist/one.png", tmp_path / "folder/=one.png")
    assert main(command) == 1
    found = parquet.read_table(out)
    assert tuple(found.column_names) == COLUMNS
    assert found["file"].to_pylist() == ["seven.png", "=one.png"]
    assert found["label"].to_pylist() == ["7", "1"]
    assert min(found["probability"].to_pylist()) > 0.9
    assert found["in_distribution"].to_pylist() == [True, True]


def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "pictures.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(SEVEN, "seven.png")
    with pytest.raises(StartError, match="Decompress it first"):
        find_source(str(path))


def test_an_archives_bad_members_are_errors_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(10_000_000))
        archive.writestr("torn", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    torn = content.index(b"torn") + 30
    content[torn : torn + 20] = bytes(20)
    path.write_bytes(content)
    source = find_source(str(path))
    listed = {picture.name: picture for picture in pictures_in(source)}
    for name, told in ("bomb", "larger than"), ("torn", "The zip archive does not give it"):
        with pytest.raises(Exception, match=told):
            read_picture(source, listed[name], 1024 * 1024)


@pytest.mark.parametrize("name", ["pictures.zip", "pictures.parquet"])
def test_a_file_that_is_not_what_its_name_says_is_refused(name: str, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_text("something else")
    with pytest.raises(StartError, match="cannot be read as a"):
        list(pictures_in(find_source(str(path))))


def test_a_source_that_holds_its_own_table_does_not_classify_it(
    tmp_path: Path, lenets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAPLASTIC_WEIGHTS", str(lenets))
    source = source_of("folder", tmp_path)
    out = Path(source, "results.csv")
    command = [source, "--model", "mnist/lenet", "--out", str(out)]
    assert main(command) == main(command) == 1
    assert set(table(out)) == {"seven.png"}
    assert set(table(errors_path(out))) == {"notes.txt"}


def test_many_processes_answer_as_one(
    tmp_path: Path, lenets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAPLASTIC_WEIGHTS", str(lenets))
    answers = []
    for processes, size in ((1, 256), (3, 2)):
        out = tmp_path / f"{processes}.csv"
        command = [str(SAMPLES / "mnist"), "--model", "mnist/lenet", "--out", str(out)]
        assert main([*command, "--processes", str(processes), "--chunk-size", str(size)]) == 0
        answers.append(out.read_bytes())
    assert answers[0] == answers[1]
    assert len(answers[0].splitlines()) == 11


def test_shares_are_all_pictures_together_and_none_twice(
    tmp_path: Path, lenets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAPLASTIC_WEIGHTS", str(lenets))
    found: list[str] = []
    for number in range(3):
        out = tmp_path / f"{number}.csv"
        command = [str(SAMPLES / "mnist"), "--model", "mnist/lenet", "--out", str(out)]
        assert main([*command, "--share", f"{number}/3"]) == 0
        found += table(out)
        assert main([*command, "--share", f"{number}/4"]) == 2
    assert sorted(found) == sorted(path.name for path in (SAMPLES / "mnist").iterdir())
    with pytest.raises(SystemExit):
        main([*command, "--share", "3/3"])


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_all_processes_and_the_same_command_continues(
    tmp_path: Path, out: Path, lenets: Path, stop: signal.Signals
) -> None:
    folder = tmp_path / "sevens"
    folder.mkdir()
    for number in range(600):
        (folder / f"{number:04}.png").write_bytes(SEVEN.read_bytes())
    command = [sys.executable, "-m", "app.classify", str(folder), "--model", "mnist/lenet"]
    command += ["--out", str(out), "--chunk-size", "10", "--processes", "2"]
    variables = {**os.environ, "METAPLASTIC_WEIGHTS": str(lenets)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    ends = time.monotonic() + 60
    while not list(folder_of(out).glob("part-*")):
        assert time.monotonic() < ends
        time.sleep(0.005)  # between two looks, not in place of one
    if stop == signal.SIGINT:  # a terminal sends it to all
        os.killpg(process.pid, stop)
    else:
        process.send_signal(stop)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told == "\nStopped. Run the same command to continue.\n"
    assert 0 < len(part_numbers(folder_of(out))) < 60
    again = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert set(table(out).values()) == {"7"}
    assert len(table(out)) == 600
