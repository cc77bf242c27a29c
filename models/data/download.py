"""Download a file with a known checksum, and continue after a broken connection."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from models.errors import MetaplasticError

_PART = 1 << 16  # bytes read at once
_SECONDS = 30  # without data, after which a connection counts as broken


class DownloadError(MetaplasticError):
    """A failed download. The message says what was kept and what to do."""


def download(url: str, target: Path, sha256: str, size: int) -> None:
    """Download `size` bytes from `url` to `target`, which appears when it is complete.

    Until then the bytes are in `<target>.part`. A broken connection is opened again as long as each
    one brings new bytes. The next call continues with that file, or from the start if the server
    does not support HTTP range requests. A terminal shows a progress bar.

    Raises DownloadError if the server cannot be reached, if it sends more than `size` bytes, and if
    the SHA-256 differs. In the last two cases the `.part` file is deleted, because more bytes
    cannot make it right.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    part.touch()
    while True:
        before = part.stat().st_size
        try:
            if _go_on(url, part, target.name, size):
                break
            reason: Exception = ConnectionError("the connection was closed early")
        except (OSError, http.client.HTTPException) as error:
            reason = error
        if isinstance(reason, urllib.error.HTTPError) or part.stat().st_size <= before:
            raise DownloadError(_interrupted(url, part, reason)) from reason
    if (found := checksum(part)) != sha256:
        raise _another(part, f"{url} has the SHA-256 {found}, expected {sha256}")
    part.replace(target)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _go_on(url: str, part: Path, name: str, size: int) -> bool:
    """Append the bytes of one connection to `part`, and return whether the file is complete.

    Raises OSError, or DownloadError if there are more than `size` bytes.
    """
    have = part.stat().st_size
    request = urllib.request.Request(url)  # noqa: S310  (the project's own URLs)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # all bytes are there; the checksum decides whether they are right
        raise
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the server sends the whole file
        length = answer.headers["Content-Length"]
        total = None if length is None else have + int(length)
        if total is not None and total > size:
            raise _another(part, f"{url} has {total} bytes, expected {size}")
        with (
            part.open("r+b") as file,
            tqdm(
                desc=name,
                total=total,
                initial=have,
                unit="B",
                unit_scale=True,
                disable=None,  # if there is no terminal
            ) as bar,
        ):
            file.truncate(have)
            file.seek(have)
            while received := answer.read(_PART):
                if file.tell() + len(received) > size:
                    raise _another(part, f"{url} has more than the expected {size} bytes")
                file.write(received)
                bar.update(len(received))
            return total is None or file.tell() >= total


def _another(part: Path, difference: str) -> DownloadError:
    part.unlink()
    return DownloadError(
        f"{difference}: it was damaged on the way, or the file has changed. Nothing was kept. Try "
        "again, or download it elsewhere"
    )


def _interrupted(url: str, part: Path, error: Exception) -> str:
    kept = part.stat().st_size
    if not kept:
        part.unlink()
        return f"{url} could not be downloaded ({error})"
    return (
        f"the download of {url} was interrupted ({error}); {kept} bytes are kept in {part}, and "
        "the same command continues from there"
    )
