"""What `python -m app.classify` does with its options, and with what stands where it writes."""

import csv
import os
import shutil
import socket
from pathlib import Path

import pytest

from app.bulk.job import folder_of
from app.bulk.merge import errors_path
from app.catalogue.load import SAMPLES
from app.classify import main
from models.cluster import ClusterError, join

SEVEN = SAMPLES / "mnist/seven.png"


@pytest.fixture
def folder(tmp_path: Path, lenets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A seven and a file that is no picture."""
    monkeypatch.setenv("METAPLASTIC_WEIGHTS", str(lenets))
    folder = tmp_path / "pictures"
    folder.mkdir()
    shutil.copy(SEVEN, folder / "seven.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def classify(folder: Path | str, out: Path | str, *more: str, model: str = "mnist/lenet") -> int:
    return main([str(folder), "--model", model, "--out", str(out), *more])


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--processes", "0"), "expected a whole number from 1 to 100000, found '0'"),
        (("--processes", "-1"), "expected a whole number from 1 to 100000, found '-1'"),
        (("--processes", "two"), "expected a whole number from 1 to 100000, found 'two'"),
        (("--chunk-size", "9" * 5000), "expected a whole number from 1 to 100000"),
        (("--patience", "nan"), "expected seconds above 0, found 'nan'"),
        (("--patience", "-1"), "expected seconds above 0, found '-1'"),
        (("--share", "4/4"), "expected 0/4 to 3/4"),
        (("--out", "s3://bucket/a.csv"), "expected a file of this machine"),
        (("--processes", "2", "--on", "auto"), "not allowed with argument"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    options: tuple[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        classify(".", "results.csv", *options)
    assert refusal.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "address", ["", "local", "ray://10.0.0.1:10001", "head", "head:x", "a b:1"]
)
def test_what_is_no_address_of_a_cluster_starts_none(address: str) -> None:
    """Ray would start a cluster for some of these."""
    with pytest.raises(ClusterError, match="expected auto or HOST:PORT, found"):
        join(address)


def test_where_nobody_listens_is_told_at_once() -> None:
    """Ray itself would try for a quarter of an hour."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        for address in (f"127.0.0.1:{port}", "127.0.0.1:99999"):
            with pytest.raises(ClusterError, match=rf"--on {address}: .* cannot be joined"):
                join(address)


def test_an_empty_address_of_a_cluster_is_not_this_machine(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify(folder, tmp_path / "results.csv", "--on", "") == 2
    assert "expected auto or HOST:PORT" in capsys.readouterr().err


def test_what_is_no_file_is_not_replaced_by_the_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for out in (pipe, Path("/dev/null"), folder):
        assert classify(folder, out) == 2
        assert f"{out} is not a file" in capsys.readouterr().err
        assert not folder_of(out).exists()
    assert pipe.is_fifo()
    assert Path("/dev/null").is_char_device()


def test_a_linked_table_is_filled_and_its_link_stays(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "results.csv"
    link.symlink_to("elsewhere/table.csv")
    assert classify(folder, link) == 1
    assert link.is_symlink()
    assert set(table(tmp_path / "elsewhere/table.csv")) == {"seven.png"}


def test_a_file_of_others_is_not_taken_for_the_table_of_errors(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.csv"
    errors_path(out).write_text("what I must not forget")
    assert classify(folder, out) == 2
    assert "results.errors.csv, where pictures" in capsys.readouterr().err
    assert errors_path(out).read_text() == "what I must not forget"
    errors_path(out).write_text("file,error\nof an older version,\n")
    assert classify(folder, out) == 1
    assert set(table(errors_path(out))) == {"notes.txt"}


def test_two_tables_of_one_name_have_errors_of_their_own(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert classify(folder, tmp_path / "results.csv") == 1
    (folder / "notes.txt").unlink()
    assert classify(folder, tmp_path / "results.parquet") == 0
    assert set(table(tmp_path / "results.errors.csv")) == {"notes.txt"}


def test_a_source_is_the_same_by_whatever_path_it_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table in the source is never a picture, either."""
    out = folder / "results.csv"
    assert classify(folder, out) == 1
    (tmp_path / "link").symlink_to(folder)
    before = out.read_bytes()
    monkeypatch.chdir(tmp_path)
    for source, table_ in (("link/", "link/results.csv"), ("./pictures/../link", str(out))):
        assert classify(source, table_) == 1
        assert out.read_bytes() == before
        assert set(table(errors_path(out))) == {"notes.txt"}


def test_a_folder_whose_name_is_no_text_is_read(tmp_path: Path, folder: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.rename(odd)
    assert classify(odd, tmp_path / "results.csv") == 1
    assert classify(odd, tmp_path / "results.csv") == 1
    assert set(table(tmp_path / "results.csv")) == {"seven.png"}


def test_a_long_name_in_a_list_does_not_fill_the_terminal(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "list.txt").write_text("seven.png\n" + "x" * 16_000)
    assert classify(folder / "list.txt", tmp_path / "results.csv") == 1
    assert max(map(len, capsys.readouterr().err.splitlines())) < 500
    assert len(next(iter(table(tmp_path / "results.errors.csv")))) == 16_000


def test_a_model_that_is_damaged_says_so(
    folder: Path,
    tmp_path: Path,
    lenets: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = shutil.copytree(lenets, tmp_path / "weights")
    monkeypatch.setenv("METAPLASTIC_WEIGHTS", str(weights))
    out = tmp_path / "results.csv"
    assert classify(folder, out) == 1
    for path in weights.glob("mnist/lenet/metaplastic/*/*.onnx"):
        path.write_bytes(path.read_bytes() + b"\0")
    capsys.readouterr()
    assert classify(folder, out, "--rule", "metaplastic") == 2
    assert "no rule 'metaplastic'" in capsys.readouterr().err
    for path in weights.glob("mnist/lenet/backprop/*/*.onnx"):
        path.write_bytes(b"")
    assert classify(folder, out) == 2
    assert "SHA-256 differs" in capsys.readouterr().err


def test_a_job_that_is_cut_or_cannot_be_opened_says_what_to_do(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.csv"
    assert classify(folder, out) == 1
    job = folder_of(out) / "job.sqlite"
    content = job.read_bytes()
    job.write_bytes(content[: len(content) // 2])
    capsys.readouterr()
    assert classify(folder, out) == 2
    told = capsys.readouterr().err
    assert f"Remove the folder {folder_of(out)} to begin again" in told
    job.write_bytes(content)
    job.unlink()
    job.mkdir()  # so it cannot be opened
    assert classify(folder, out) == 2
    assert f"{folder_of(out)} cannot be written: unable to open" in capsys.readouterr().err
