"""Where the pictures of a bulk job come from: what there is, and the bytes of one of them.

A picture has a name, which is its own within the source, and a place, by which it is found again
without a search: nothing for a file, the position of the bytes in an archive.
"""

import functools
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from app.errors import RequestError
from app.settings import MEBIBYTE, StartError
from models.files import is_shown, open_regular

_LONGEST_LINE = 16 * 1024  # characters of a path or a URL
# What the readers of archives raise for broken ones, beside their own errors.
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError),
    *(ValueError, RuntimeError, ArithmeticError, LookupError),
)


class Listed(NamedTuple):
    """A picture of a source."""

    name: str
    place: str = ""


class Source(NamedTuple):
    """A source of pictures: its kind, a key of KINDS, and its absolute path or its URL."""

    kind: str
    path: str


class Kind(NamedTuple):
    """What can be done with the sources of a kind."""

    # All pictures. Raises StartError if the source cannot be read.
    names: Callable[[str], Iterator[Listed]]
    # The bytes of a picture, but at most so many and one more. Raises OSError or RequestError.
    read: Callable[[str, Listed, int], bytes]


def find_source(text: str) -> Source:
    """Return the source that `text` names. Raises StartError if there is none of a known kind."""
    if "://" in text:
        return Source("fsspec", text if text.endswith("://") else text.rstrip("/"))
    path = Path(text).absolute()
    if path.is_dir():
        return Source("folder", str(path))
    if not path.is_file():
        raise StartError(f"{text} is not a folder, and not a file that names or holds pictures.")
    if _is_tar(path, "r:"):
        return Source("tar", str(path))
    if _is_tar(path, "r"):
        raise StartError(f"{text} is a compressed tar. Decompress it first, into a .tar file.")
    kinds = {".tar": "tar", ".zip": "zip", ".parquet": "parquet"}
    return Source(kinds.get(path.suffix.lower(), "list"), str(path))


def _is_tar(path: Path, mode: Literal["r", "r:"]) -> bool:
    """Return whether a file begins as a tar: with the mode `r` also as a compressed one."""
    try:
        tarfile.open(path, mode).close()
    except OSError:
        raise
    except _BROKEN:
        return False
    return True


def pictures_in(source: Source) -> Iterator[Listed]:
    """Yield all pictures of a source. Raises StartError if it cannot be read."""
    return KINDS[source.kind].names(source.path)


def read_picture(source: Source, picture: Listed, limit: int) -> bytes:
    """Return the bytes of a picture.

    Raises RequestError if they cannot be read, or if there are more than `limit`.
    """
    try:
        data = KINDS[source.kind].read(source.path, picture, limit)
    except OSError as error:
        message = f"{error.strerror or error}."
        raise RequestError(400, "unreadable", message) from error
    if len(data) > limit:
        message = f"The file is larger than {limit // MEBIBYTE} MiB."
        raise RequestError(413, "too_large", message)
    return data


# A folder, or a list of paths -----------------------------------------------------------------


def _in_folder(path: str) -> Iterator[Listed]:
    """Yield the files of a folder and below as relative paths, except hidden ones.

    A link counts as the file that it leads to; links to folders are not followed. What cannot be
    looked at, a folder too, is yielded as well: reading it tells why.
    """
    waiting = [Path()]
    while waiting:
        place = waiting.pop()
        files, below = [], []
        try:
            with os.scandir(path / place) as found:
                for entry in found:
                    if not is_shown(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
                    elif entry.is_file(follow_symlinks=False) or not _is_no_file(entry):
                        files.append(entry.name)
        except OSError as error:
            if place == Path():
                raise StartError(f"{path} cannot be read: {error.strerror}.") from error
            yield Listed(str(place))
            continue
        for name in sorted(files):
            yield Listed(str(place / name))
        waiting += [place / name for name in sorted(below, reverse=True)]


def _is_no_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is, or leads to, something else than a file: a folder, a pipe."""
    try:
        return not stat.S_ISREG(entry.stat().st_mode)
    except OSError:  # a link that leads nowhere
        return False


def _in_list(path: str) -> Iterator[Listed]:
    """Yield the lines of a file: paths, seen from the folder of that file, or URLs."""
    # Some editors begin a file with U+FEFF, which `utf-8-sig` passes over.
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
        while line := lines.readline(_LONGEST_LINE):
            if "\0" in line or len(line) == _LONGEST_LINE:
                found = "a byte 0" if "\0" in line else f"a line of over {_LONGEST_LINE} characters"
                raise StartError(
                    f"{path} is not a list of paths: it has {found}. The name of an archive ends "
                    "with .tar, .zip or .parquet."
                )
            if name := line.rstrip("\r\n"):
                yield Listed(name)


def _read_file(folder: str, picture: Listed, limit: int) -> bytes:
    with open_regular(Path(folder, picture.name)) as file:
        return file.read(limit + 1)


def _read_of_list(path: str, picture: Listed, limit: int) -> bytes:
    if "://" in picture.name:
        return _read_url("", picture, limit)
    return _read_file(str(Path(path).parent), picture, limit)


# Archives -------------------------------------------------------------------------------------


def _is_theirs(member: str) -> bool:
    """Return whether a member of an archive is no hidden file, and no note of a system."""
    return all(part in (".", "..") or is_shown(part) for part in member.split("/"))


def _in_tar(path: str) -> Iterator[Listed]:
    """Yield the files of a tar archive, and its links, which cannot be read."""
    try:
        with tarfile.open(path, "r:") as archive:
            before = -1
            for member in archive:
                if member.size < 0 or member.offset <= before:  # tarfile would go on for ever
                    raise tarfile.ReadError("a member has a negative size")
                before = member.offset
                if not _is_theirs(member.name):
                    continue
                if member.isfile() and not member.issparse():
                    yield Listed(member.name, f"{member.offset_data} {member.size}")
                elif member.isfile() or member.issym() or member.islnk():
                    yield Listed(member.name, _LINK)
                archive.members = []  # type: ignore[attr-defined]  # or it keeps all of them
            _check_end(archive)
    except _BROKEN as error:
        raise StartError(f"{path} cannot be read as a tar archive: {error}.") from error


_LINK = "link"  # the place of a picture whose bytes are not in one piece under its own name


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError if it is no end where tarfile found no further member."""
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"it is damaged or incomplete at byte {archive.offset}")


def _read_of_tar(path: str, picture: Listed, limit: int) -> bytes:
    if picture.place == _LINK:
        message = "It is a link, or has holes. Pack it with tar --dereference --hard-dereference."
        raise RequestError(400, "unreadable", message)
    start, size = map(int, picture.place.split())
    with open_regular(Path(path)) as file:
        file.seek(start)
        return file.read(min(size, limit + 1))


def _in_zip(path: str) -> Iterator[Listed]:
    try:
        with zipfile.ZipFile(path) as archive:
            for number, member in enumerate(archive.infolist()):
                if not member.is_dir() and _is_theirs(member.filename):
                    yield Listed(member.filename, str(number))
    except _BROKEN as error:
        raise StartError(f"{path} cannot be read as a zip archive: {error}.") from error


@functools.lru_cache(maxsize=1)  # its directory is long
def _open_zip(path: str) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    archive = zipfile.ZipFile(path)
    return archive, archive.infolist()


def _read_of_zip(path: str, picture: Listed, limit: int) -> bytes:
    try:
        archive, members = _open_zip(path)
        member = members[int(picture.place)]
        # Of the other methods, zipfile decompresses more than it is asked for: gigabytes at worst.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile("of the compressions, only deflate is read")
        with archive.open(member) as file:
            return file.read(limit + 1)
    except _BROKEN as error:  # a RuntimeError for one that is encrypted
        message = f"The zip archive does not give it: {error}."
        raise RequestError(400, "unreadable", message) from error


# A Parquet file -------------------------------------------------------------------------------


def _in_parquet(path: str) -> Iterator[Listed]:
    """Yield the number of each row of a Parquet file that has one column of bytes."""
    table, *_ = _open_parquet(path)
    row = 0
    for group in range(table.metadata.num_row_groups):
        for index in range(table.metadata.row_group(group).num_rows):
            yield Listed(str(row), f"{group} {index}")
            row += 1


@functools.lru_cache(maxsize=1)
def _open_parquet(path: str) -> tuple[Any, str, str | None]:
    """Return a Parquet file, the name of its column of bytes, and the field in it, if any.

    Pictures as the library `datasets` writes them count as well: a column of structures with a
    field `bytes`.
    """
    parquet = wanted("pyarrow.parquet", "pyarrow", path)
    import pyarrow

    try:
        table = parquet.ParquetFile(path, memory_map=False)
    except (pyarrow.ArrowException, OSError) as error:
        raise StartError(f"{path} cannot be read as a Parquet file: {error}.") from error
    found: list[tuple[str, str | None]] = []
    for column in table.schema_arrow:
        if _is_of_bytes(column.type):
            found.append((column.name, None))
        elif pyarrow.types.is_struct(column.type):
            index = column.type.get_field_index("bytes")
            if index >= 0 and _is_of_bytes(column.type.field(index).type):
                found.append((column.name, "bytes"))
    if len(found) != 1:
        names = ", ".join(name for name, _ in found) or "none"
        raise StartError(
            f"{path}: expected one column of bytes, found {len(found)} ({names}). Write a Parquet "
            "file with the pictures' column alone."
        )
    return table, *found[0]


def _is_of_bytes(kind: Any) -> bool:
    import pyarrow

    return kind in (pyarrow.binary(), pyarrow.large_binary(), pyarrow.binary_view())


@functools.lru_cache(maxsize=1)  # a chunk reads its rows in their order
def _row_group(path: str, number: int) -> Any:
    table, name, field = _open_parquet(path)
    leaf = name if field is None else f"{name}.{field}"
    values = table.read_row_group(number, columns=[leaf]).column(name)
    if field is not None:
        import pyarrow.compute

        values = pyarrow.compute.struct_field(values, field)
    return values


def _read_of_parquet(path: str, picture: Listed, limit: int) -> bytes:
    group, index = map(int, picture.place.split())
    try:
        data: bytes | None = _row_group(path, group)[index].as_py()
    except (*_BROKEN, NotImplementedError) as error:  # pyarrow's errors are among them
        message = f"The Parquet file does not give it: {error}."
        raise RequestError(400, "unreadable", message) from error
    return data or b""


# S3 and others --------------------------------------------------------------------------------


def _in_url(url: str) -> Iterator[Listed]:
    """Yield the files below a URL as paths relative to it, except hidden ones."""
    try:
        files, root = _file_system(url)
        if not files.isdir(root):
            raise StartError(f"{url} is not a folder.")
        root = root.rstrip("/")
        waiting = [root]
        while waiting:
            place = waiting.pop()
            found: list[str] = []
            below: list[str] = []
            for entry in files.ls(place, detail=True):
                path = entry["name"].rstrip("/")
                # Some stores list the folder itself, or what is not in it.
                inside = path.startswith(place) and path != place
                if inside and is_shown(path.rsplit("/", 1)[-1]):
                    (below if entry["type"] == "directory" else found).append(path)
            for path in sorted(found):
                yield Listed(path[len(root) :].lstrip("/"))
            waiting += sorted(below, reverse=True)
    except StartError:
        raise
    except Exception as error:  # each store has errors of its own
        raise StartError(f"{url} cannot be read: {_told(error)}.") from error


def _read_url(url: str, picture: Listed, limit: int) -> bytes:
    """Return the bytes of a file below `url`, or of the URL that `picture` is."""
    try:
        files, path = _file_system(url or picture.name)
        path = f"{path.rstrip('/')}/{picture.name}" if url else path
        if getattr(files, "local_file", False):
            return _read_file("", Listed(path), limit)
        data: bytes = files.cat_file(path, start=0, end=limit + 1)
    except (StartError, OSError):
        raise
    except Exception as error:  # each store has errors of its own
        raise RequestError(400, "unreadable", f"It cannot be read: {_told(error)}.") from error
    return data


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__


def _file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it. Raises StartError without one."""
    fsspec = wanted("fsspec", "fsspec", url)
    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError as error:  # the protocol's own package, such as s3fs
        raise StartError(f"{url}: {error}") from error
    return files, path


def wanted(module: str, package: str, purpose: str) -> Any:
    """Return an optional module. Raises StartError with what to install for `purpose`."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise StartError(f"{purpose} needs {package}: pip install {package}") from error


KINDS = {
    "folder": Kind(_in_folder, _read_file),
    "list": Kind(_in_list, _read_of_list),
    "tar": Kind(_in_tar, _read_of_tar),
    "zip": Kind(_in_zip, _read_of_zip),
    "parquet": Kind(_in_parquet, _read_of_parquet),
    "fsspec": Kind(_in_url, _read_url),
}
