"""python -m app.classify: a folder of pictures becomes a table."""

import csv
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.bulk.tables import COLUMNS, name_in_tables
from app.catalogue.load import SAMPLES
from app.classify import main
from models.terminal import printable

ROOT = Path(__file__).parents[2]
DIGITS = {"one": "1", "seven": "7", "three": "3"}

Command = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three digits, one of them in a folder below, beside a hidden file."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for name in DIGITS:
        place = folder / "more" if name == "three" else folder
        (place / f"{name}.png").write_bytes((SAMPLES / f"mnist/{name}.png").read_bytes())
    (folder / ".hidden").write_text("nothing")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


@pytest.fixture
def classify(folder: Path, out: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command on the folder, with more arguments; its exit status."""
    monkeypatch.setenv("METAPLASTIC_WEIGHTS", str(repository))

    def run(*more: str) -> int:
        return main([str(folder), "--model", "mnist/lenet", "--out", str(out), *more])

    return run


def rows(out: Path) -> dict[str, dict[str, str]]:
    with out.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    found = {row["file"]: row for row in table}
    assert len(found) == len(table)
    return found


def test_every_picture_in_a_folder_and_below_gets_a_row(
    classify: Command, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify() == 0
    assert {name: row["label"] for name, row in rows(out).items()} == {
        "one.png": "1",
        "seven.png": "7",
        "more/three.png": "3",
    }
    seven = rows(out)["seven.png"]
    assert tuple(seven) == COLUMNS
    assert float(seven["probability"]) > 0.9
    assert (seven["in_distribution"], seven["model"]) == ("true", "mnist-lenet-metaplastic")
    assert "3 classified, 0 skipped" in capsys.readouterr().out


def test_bad_files_are_listed_and_skipped_and_tried_again(
    classify: Command, folder: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "notes.txt").write_text("no picture")
    (folder / "torn.png").write_bytes((folder / "one.png").read_bytes()[:60])
    assert classify() == 1
    told = capsys.readouterr()
    assert "skipped notes.txt: The file is not a picture" in told.err
    assert "skipped torn.png:" in told.err
    assert "3 classified, 2 skipped" in told.out
    assert len(rows(out)) == 3
    (folder / "torn.png").write_bytes((folder / "one.png").read_bytes())
    assert classify() == 1
    assert rows(out)["torn.png"]["label"] == "1"


def test_it_goes_on_where_it_was_interrupted(
    classify: Command, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify() == 0
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:2]) + lines[2][:9])  # a row and a half
    capsys.readouterr()
    assert classify() == 0
    assert "2 classified (1 were done before)" in capsys.readouterr().out
    assert out.read_bytes() == whole
    assert classify() == 0
    assert "0 classified (3 were done before)" in capsys.readouterr().out
    assert out.read_bytes() == whole


def test_the_answers_of_two_models_do_not_mix(
    classify: Command, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify() == 0
    before = out.read_bytes()
    assert classify("--rule", "backprop") == 2
    assert "has answers of mnist-lenet-metaplastic" in capsys.readouterr().err
    out.write_text("name,age\nEve,7\n")
    assert classify() == 2
    assert "was not written by this command" in capsys.readouterr().err
    assert out.read_text() == "name,age\nEve,7\n"
    assert before


NAMES = [
    *("=1+1.png", "+a.png", "-b.png", "@c.png", "'=d.png", 'q",\n.png'),
    *("\n=1.png", "\r=1.png", "\t=1.png", " =1.png", "\u3000=1.png", "\ufeff=1.png", "\x1b=1.png"),
    *(
        "\uff1d1.png",
        "\uff0b1.png",
        "\uff0d1.png",
        "\uff201.png",
        "\ufe661.png",
    ),  # full-width, small
    *("a;=1.png", "a\t=1.png", "a|=1.png", 'a";=1.png', 'a;"=1.png', "a\r=1.png", "a\n=1.png"),
    *("a\rb.png", "a\r\nb.png", "a\x85b.png", "a\u2028b.png", "a\x1b[2Jb.png"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_files_name_does_not_become_a_formula(
    classify: Command, folder: Path, out: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).write_bytes((folder / "seven.png").read_bytes())
    assert classify() == 0
    escaped = name_in_tables(name)
    written = next(written for written in rows(out) if written.endswith(escaped))
    assert rows(out)[written]["label"] == "7"
    for separator in ",;\t|":  # as spreadsheets of other countries divide
        with out.open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file, delimiter=separator) for cell in row]
        assert [cell for cell in cells if begins_a_formula(cell)] == []
    before = out.read_bytes()
    assert classify() == 0  # and it is known again
    assert out.read_bytes() == before
    assert "0 classified (4 were done before)" in capsys.readouterr().out


def begins_a_formula(cell: str) -> bool:
    """With all left out that some spreadsheet may leave out before."""
    visible = cell.strip("\x00\x1b\ufeff\u200b\u3000 \t\r\n")
    return visible[:1] in tuple("=+-@\uff1d\uff0b\uff0d\uff20\ufe66")


def test_a_files_name_does_not_command_the_terminal(
    classify: Command, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    title = "\x1b]0;owned\x07\x9b2J\rskipped nothing\nskipped \u202egnp.png"
    (folder / title).write_text("no picture")
    assert classify() == 1
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert line.startswith(
        r"skipped \x1b]0;owned\x07\u009b2J\rskipped nothing\nskipped \u202egnp.png: "
    )
    assert classify("--model", "\x1b[31mmnist") == 2
    assert "\x1b" not in capsys.readouterr().err
    with pytest.raises(SystemExit):
        classify("\x1b[31m.png")  # as a shell's * may expand
    told = capsys.readouterr()
    assert r"unrecognized arguments: \x1b[31m.png" in told.err


def test_the_table_does_not_command_the_terminal_that_shows_it(
    classify: Command, folder: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two names that differ only in what is escaped have a row each, and are known again."""
    for name in ("\x1b]0;owned\x07\x9b2J\u202e.png", "\x1b.png", r"\x1b.png"):
        (folder / name).write_bytes((folder / "seven.png").read_bytes())
    assert classify() == 0
    before = out.read_bytes()
    assert printable(before.decode().replace("\r\n", "\n")) == before.decode().replace("\r\n", "\n")
    assert {r"\x1b.png", r"\\x1b.png"} < set(rows(out))
    capsys.readouterr()
    assert classify() == 0
    assert out.read_bytes() == before
    assert "0 classified (6 were done before)" in capsys.readouterr().out


def test_a_name_that_is_no_text_is_written_all_the_same(
    classify: Command, folder: Path, out: Path
) -> None:
    raw = os.fsencode(folder) + b"/caf\xe9.png"
    Path(os.fsdecode(raw)).write_bytes((folder / "seven.png").read_bytes())
    assert classify() == 0
    assert rows(out)["caf\\xe9.png"]["label"] == "7"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--model", "mnist/none"), "there are: "),
        (("--rule", "none"), "it has: metaplastic"),
        (("--out", "/nowhere/results.csv"), "No such file or directory"),
    ],
)
def test_what_cannot_be_started_says_why(
    classify: Command, capsys: pytest.CaptureFixture[str], more: tuple[str, str], told: str
) -> None:
    assert classify(*more) == 2
    assert told in capsys.readouterr().err


def test_a_missing_folder_says_so(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/nowhere", "--model", "mnist/lenet", "--out", str(out)]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert not out.exists()


def test_a_terminal_gets_a_progress_bar(folder: Path, out: Path, repository: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "app.classify", str(folder)]
    command += ["--model", "mnist/lenet", "--out", str(out)]
    environment = {**os.environ, "METAPLASTIC_WEIGHTS": str(repository.resolve())}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=60,
        check=False,
    )
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "[########################] 3/3" in shown
    assert len(rows(out)) == 3
