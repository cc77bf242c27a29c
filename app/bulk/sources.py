"""Where the pictures of a bulk job come from: what there is, and the bytes of one of them.

A picture has a name, which is its own within the source, and a place, by which it is found again
without a search: nothing for a file, the position of the bytes in an archive.
"""

import functools
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import RequestError
from app.settings import MEBIBYTE, StartError
from models.files import open_regular


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
        return Source("fsspec", text.rstrip("/"))
    path = Path(text).absolute()
    if path.is_dir():
        return Source("folder", str(path))
    if not path.is_file():
        raise StartError(f"{text} is not a folder, and not a file that names or holds pictures.")
    if tarfile.is_tarfile(path):
        if path.suffix.lower() != ".tar":
            raise StartError(f"{text} is a compressed tar. Decompress it first, into a .tar file.")
        return Source("tar", str(path))
    kinds = {".zip": "zip", ".parquet": "parquet"}
    return Source(kinds.get(path.suffix.lower(), "list"), str(path))


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
    """Yield the files of a folder and below as relative paths, except hidden ones."""
    for place, below, files in os.walk(path):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(files):
            found = Path(place, name)
            if not name.startswith(".") and found.is_file():
                yield Listed(str(found.relative_to(path)))


def _in_list(path: str) -> Iterator[Listed]:
    """Yield the lines of a file: paths, seen from the folder of that file, or URLs."""
    with Path(path).open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            if name := line.rstrip("\r\n"):
                if "\0" in name:
                    raise StartError(f"{path} is not a list of paths: it has a byte 0.")
                yield Listed(name)


def _read_file(folder: str, picture: Listed, limit: int) -> bytes:
    with open_regular(Path(folder, picture.name)) as file:
        return file.read(limit + 1)


def _read_of_list(path: str, picture: Listed, limit: int) -> bytes:
    if "://" in picture.name:
        return _read_url("", picture, limit)
    return _read_file(str(Path(path).parent), picture, limit)


# Archives -------------------------------------------------------------------------------------


def _in_tar(path: str) -> Iterator[Listed]:
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isfile() and not member.issparse():
                    yield Listed(member.name, f"{member.offset_data} {member.size}")
                archive.members = []  # type: ignore[attr-defined]  # or it keeps all of them
    except (tarfile.TarError, OSError) as error:
        raise StartError(f"{path} cannot be read as a tar archive: {error}.") from error


def _read_of_tar(path: str, picture: Listed, limit: int) -> bytes:
    start, size = map(int, picture.place.split())
    with open_regular(Path(path)) as file:
        file.seek(start)
        return file.read(min(size, limit + 1))


def _in_zip(path: str) -> Iterator[Listed]:
    try:
        with zipfile.ZipFile(path) as archive:
            for number, member in enumerate(archive.infolist()):
                if not member.is_dir():
                    yield Listed(member.filename, str(number))
    except (zipfile.BadZipFile, OSError) as error:
        raise StartError(f"{path} cannot be read as a zip archive: {error}.") from error


@functools.lru_cache(maxsize=1)  # its directory is long
def _open_zip(path: str) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    archive = zipfile.ZipFile(path)
    return archive, archive.infolist()


def _read_of_zip(path: str, picture: Listed, limit: int) -> bytes:
    # zipfile raises RuntimeError for a password and NotImplementedError for a rare compression.
    problems = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
    try:
        archive, members = _open_zip(path)
        with archive.open(members[int(picture.place)]) as member:
            return member.read(limit + 1)
    except problems as error:
        message = f"The zip archive does not give it: {error}."
        raise RequestError(400, "unreadable", message) from error


# A Parquet file -------------------------------------------------------------------------------


def _in_parquet(path: str) -> Iterator[Listed]:
    """Yield the number of each row of a Parquet file that has one column of bytes."""
    table, _ = _open_parquet(path)
    row = 0
    for group in range(table.metadata.num_row_groups):
        for index in range(table.metadata.row_group(group).num_rows):
            yield Listed(str(row), f"{group} {index}")
            row += 1


@functools.lru_cache(maxsize=1)
def _open_parquet(path: str) -> tuple[Any, str]:
    """Return a Parquet file, and the name of its column of bytes.

    Pictures as the library `datasets` writes them count as well: a column of structures with a
    field `bytes`.
    """
    parquet = wanted("pyarrow.parquet", "pyarrow", path)
    import pyarrow

    try:
        table = parquet.ParquetFile(path, memory_map=False)
    except (pyarrow.ArrowException, OSError) as error:
        raise StartError(f"{path} cannot be read as a Parquet file: {error}.") from error
    of_bytes = {pyarrow.binary(), pyarrow.large_binary()}
    found = []
    for column in table.schema_arrow:
        if column.type in of_bytes:
            found.append(column.name)
        elif pyarrow.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            found.append(f"{column.name}.bytes")
    if len(found) != 1:
        raise StartError(
            f"{path}: expected one column of bytes, found {len(found)} "
            f"({', '.join(found) or 'none'}). Write a Parquet file with the pictures' column alone."
        )
    return table, found[0]


@functools.lru_cache(maxsize=1)  # a chunk reads its rows in their order
def _row_group(path: str, number: int) -> Any:
    table, column = _open_parquet(path)
    (values,) = table.read_row_group(number, columns=[column]).columns
    for field in column.split(".")[1:]:
        import pyarrow.compute

        values = pyarrow.compute.struct_field(values, field)
    return values


def _read_of_parquet(path: str, picture: Listed, limit: int) -> bytes:
    group, index = map(int, picture.place.split())
    data: bytes | None = _row_group(path, group)[index].as_py()
    return data or b""


# S3 and others --------------------------------------------------------------------------------


def _in_url(url: str) -> Iterator[Listed]:
    """Yield the files below a URL as paths relative to it, except hidden ones."""
    files, root = _file_system(url)
    try:
        if not files.isdir(root):
            raise StartError(f"{url} is not a folder.")
        for place, below, names in files.walk(root):
            for name in [name for name in below if name.startswith(".")]:
                del below[name]  # fsspec's walk yields dictionaries or lists
            for name in sorted(names):
                if not name.startswith("."):
                    yield Listed(f"{place}/{name}"[len(root.rstrip("/")) + 1 :])
    except OSError as error:
        raise StartError(f"{url} cannot be read: {error}.") from error


def _read_url(url: str, picture: Listed, limit: int) -> bytes:
    files, path = _file_system(f"{url}/{picture.name}" if url else picture.name)
    data: bytes = files.cat_file(path, start=0, end=limit + 1)
    return data


def _file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it."""
    fsspec = wanted("fsspec", "fsspec", url)
    try:
        files, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # the protocol's own package, such as s3fs
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
