"""What people and programs put into folders, lists, archives and tables, and what is read of it."""

import os
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import pytest

from app.bulk.sources import Source, find_source, pictures_in, read_picture
from app.bulk.tables import name_in_tables
from app.errors import RequestError
from app.settings import MEBIBYTE, StartError

CONTENT = b"a picture"


def found(source: Path | str) -> dict[str, str]:
    """Return what is read of each picture of a source, or why it cannot be read."""
    known = find_source(str(source))
    return {picture.name: told(known, picture) for picture in pictures_in(known)}


def told(source: Source, picture: object) -> str:
    try:
        return read_picture(source, picture, MEBIBYTE).decode()
    except RequestError as error:
        return error.message


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)
    return folder


# A folder -------------------------------------------------------------------------------------


def test_a_folder_gives_files_and_links_to_files_and_no_notes_of_systems(tmp_path: Path) -> None:
    put(tmp_path, "b.png", "a/c.png", "a/.git/x", ".hidden", "Thumbs.db", "__MACOSX/y")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("b.png")
    (tmp_path / "a/loop").symlink_to("..")
    assert found(tmp_path) == dict.fromkeys(["b.png", "link.png", "a/c.png"], CONTENT.decode())


def test_what_cannot_be_looked_at_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "nowhere.png").symlink_to("gone")
    (tmp_path / "self.png").symlink_to("self.png")
    deep = tmp_path / "deep"  # its path becomes longer than the system opens
    deep.mkdir()
    place = os.open(deep, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=place)
        below = os.open("x" * 250, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    errors = found(tmp_path)
    shutil.rmtree(deep)
    assert errors.pop("nowhere.png") == "No such file or directory."
    assert errors.pop("self.png") == "Too many levels of symbolic links."
    ((name, error),) = errors.items()
    assert name.startswith("deep/xxx")
    assert error == "File name too long."


# A list ---------------------------------------------------------------------------------------


def test_a_list_from_another_system_is_read(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"\xef\xbb\xbfa.png\r\n\r\nb.png\r\nmissing.png\n/dev/zero\nodd://place/c")
    errors = found(listed)
    assert errors.pop("a.png") == errors.pop("b.png") == CONTENT.decode()
    assert errors.pop("missing.png") == "No such file or directory."
    assert errors.pop("/dev/zero") == "Not a regular file."
    if "fsspec" not in errors["odd://place/c"]:
        assert "Protocol not known: odd" in errors["odd://place/c"]


@pytest.mark.parametrize(
    ("content", "told"), [(b"a\0b", "a byte 0"), (b"x" * 1_000_000, "a line of over 16384")]
)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    listed = tmp_path / "list"
    listed.write_bytes(b"a.png\n" + content)
    with pytest.raises(StartError, match=rf"is not a list of paths: it has {told}.*\.zip"):
        found(listed)


# Archives -------------------------------------------------------------------------------------


def tar(path: Path, *members: tuple[str, bytes, bytes], **options: int) -> Path:
    """Write a tar of (name, content, kind)."""
    with tarfile.open(path, "w", **options) as archive:
        for name, content, kind in members:
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "other"
            archive.addfile(member, BytesIO(content))
    return path


FILE = tarfile.REGTYPE


def test_a_tar_gives_its_files_whatever_their_names_and_says_which_are_links(
    tmp_path: Path,
) -> None:
    path = tar(
        tmp_path / "any-name",
        *(("../up", CONTENT, FILE), ("/root", CONTENT, FILE), ("./here", CONTENT, FILE)),
        *(("twice", b"old", FILE), ("twice", CONTENT, FILE), ("n" * 300, CONTENT, FILE)),
        *(("._note", b"", FILE), ("__MACOSX/x", b"", FILE), ("./.git/x", b"", FILE)),
        *(("pipe", b"", tarfile.FIFOTYPE), ("folder", b"", tarfile.DIRTYPE)),
        *(("soft", b"", tarfile.SYMTYPE), ("hard", b"", tarfile.LNKTYPE)),
    )
    errors = found(path)
    for name in ("../up", "/root", "./here", "twice", "n" * 300):
        assert errors.pop(name) == CONTENT.decode()
    assert set(errors) == {"soft", "hard"}
    assert "It is a link" in errors["hard"]
    assert "--hard-dereference" in errors["soft"]


@pytest.mark.parametrize("damage", ["header", "cut header", "cut file", "negative size"])
def test_a_damaged_tar_is_refused_and_not_read_in_part(tmp_path: Path, damage: str) -> None:
    path = tar(tmp_path / "a.tar", *((str(n), CONTENT, FILE) for n in range(4)))
    content = bytearray(path.read_bytes())  # each member takes two blocks of 512 bytes
    if damage == "header":
        content[2048:2060] = b"\xff" * 12
    elif damage == "cut header":
        del content[2148:]
    elif damage == "cut file":
        del content[1600:]
    else:  # with which tarfile would read the same members for ever
        header = content[2048:2560]
        header[124:136] = b"\xff" * 10 + struct.pack(">h", -1536)
        header[148:156] = b"%06o\0 " % (256 + sum(header[:148]) + sum(header[156:]))
        content[2048:2560] = header
    path.write_bytes(content)
    with pytest.raises(StartError, match="cannot be read as a tar archive"):
        found(path)


@pytest.mark.parametrize("length", [40, 60])
def test_a_cut_compressed_tar_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StartError, match=r"is not a list of paths|Decompress it first"):
        found(path)


def test_a_zip_gives_its_files_whatever_their_names_and_no_notes_of_systems(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../up", "/root", "d/e", "n" * 60_000):
            archive.writestr(name, CONTENT)
        for name in ("__MACOSX/d/._e", "d/.DS_Store", "empty/"):
            archive.writestr(name, "")
        # A few bytes of bzip2 may become gigabytes, which zipfile reads at once.
        archive.writestr("bomb", bytes(1_000_000), zipfile.ZIP_BZIP2)
        archive.writestr("locked", CONTENT)
    content = bytearray(path.read_bytes())
    for mark, flags in (b"PK\1\2", 8), (b"PK\3\4", 6):
        content[content.rindex(mark) + flags] |= 1  # the last one is encrypted
    path.write_bytes(content)
    errors = found(path)
    for name in ("../up", "/root", "d/e", "n" * 60_000):
        assert errors.pop(name) == CONTENT.decode()
    assert errors.pop("bomb").endswith("of the compressions, only deflate is read.")
    assert "password required" in errors.pop("locked")
    assert errors == {}


def test_a_zip_whose_names_are_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("é", CONTENT)
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(StartError, match="cannot be read as a zip archive"):
        found(path)


# Parquet --------------------------------------------------------------------------------------


def parquet(path: Path, columns: dict[str, object], **options: object) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path, **options)
    return path


@pytest.mark.parametrize("name", ["image", "image.bytes", "a.b.c"])
def test_the_column_of_bytes_may_have_any_name_and_be_in_a_structure(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "a.parquet"
    assert found(parquet(path, {name: [CONTENT, None]})) == {"0": CONTENT.decode(), "1": ""}
    rows = [{"bytes": CONTENT, "path": "x"}, None]
    assert found(parquet(path, {name: rows, "n": [1, 2]})) == {"0": CONTENT.decode(), "1": ""}


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"a": ["text"], "b": [{"bytes": "text"}]}, r"found 0 \(none\)"),
        ({"a": [b""], "b": [{"bytes": b""}]}, r"found 2 \(a, b\)"),
    ],
)
def test_a_table_without_one_column_of_bytes_is_refused(
    tmp_path: Path, columns: dict[str, object], told: str
) -> None:
    path = parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(StartError, match=told):
        found(path)


def test_rows_that_are_damaged_are_errors_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet(path, {"image": [CONTENT * 9, CONTENT]}, row_group_size=1, compression="NONE")
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(content)
    errors = found(path)
    assert errors["0"].startswith(("The Parquet file does not give it", "Couldn't"))
    assert errors["1"] == CONTENT.decode()


# URLs -----------------------------------------------------------------------------------------


@pytest.fixture
def store() -> Iterator[str]:
    """The URL of a store in this process's memory."""
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    for name in ("a.png", "d/b::c.png", "d/.hidden", ".git/x"):
        files.pipe(f"/{name}", CONTENT)
    yield "memory://"
    files.store.clear()


def test_a_store_gives_its_files_whatever_their_names_except_hidden_ones(store: str) -> None:
    assert found(store) == dict.fromkeys(["a.png", "d/b::c.png"], CONTENT.decode())
    assert found(f"{store}d/") == {"b::c.png": CONTENT.decode()}


def test_a_store_in_another_one_is_read(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("d/b.png", CONTENT)
    assert found(f"zip://::file://{tmp_path}/a.zip") == {"d/b.png": CONTENT.decode()}


def test_a_pipe_below_a_url_blocks_nobody(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    os.mkfifo(put(tmp_path, "a.png") / "pipe.png")
    assert found(f"file://{tmp_path}") == {
        "a.png": CONTENT.decode(),
        "pipe.png": "Not a regular file.",
    }


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://bucket/folder", "Install s3fs"),
        ("odd://x", "odd://x cannot be read: Protocol not known: odd"),
        ("memory://nothing", "memory://nothing is not a folder"),
    ],
)
def test_a_store_that_cannot_be_read_says_why(url: str, told: str) -> None:
    pytest.importorskip("fsspec")
    if url.startswith("s3") and find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(StartError, match=told):
        found(url)


# Names ----------------------------------------------------------------------------------------


def test_every_name_has_a_name_of_its_own_in_the_table() -> None:
    names = [b"\x85", b"\xc2\x85", rb"\x85", rb"\u0085", b"\x1b", rb"\x1b", b"\xe9", "é".encode()]
    written = [name_in_tables(os.fsdecode(name)) for name in names]
    assert len(set(written)) == len(names)
    assert written[:2] == [r"\x85", r"\u0085"]
