"""Download a file whose checksum is known; what a broken connection left is gone on with."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from models.errors import MetaplasticError

_PART = 1 << 16  # bytes read at once
_SECONDS = 30  # without a byte before a connection is given up


class DownloadError(MetaplasticError):
    """A file that could not be had: says what was kept of it and what to do."""


def download(url: str, target: Path, sha256: str, size: int) -> None:
    """Fetch the `size` bytes of `url` into `target`, which appears complete and checked at once.

    Until then its bytes are in `<target>.part`. A broken connection is opened again for as long as
    each brings something new, and the next call goes on from that file; from its start where the
    server cannot send a part (no HTTP range requests). Shows a bar on a terminal.

    Raises DownloadError where the server cannot be reached, where it sends more than `size` bytes,
    which are not taken, and where the SHA-256 is another: then the `.part` file is dropped, since
    nothing can be added to make it right.
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
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _go_on(url: str, part: Path, name: str, size: int) -> bool:
    """Add to `part` what one connection brings; whether that is all of it.

    Raises OSError, or DownloadError where that would be more than `size` bytes.
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
            return True  # there is no more; the checksum says whether it is right
        raise
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the whole file again
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
                disable=None,  # where there is no terminal
            ) as bar,
        ):
            file.truncate(have)
            file.seek(have)
            while received := answer.read(_PART):
                if file.tell() + len(received) > size:
                    raise _another(part, f"{url} has more than the {size} bytes that are expected")
                file.write(received)
                bar.update(len(received))
            return total is None or file.tell() >= total


def _another(part: Path, difference: str) -> DownloadError:
    part.unlink()
    return DownloadError(
        f"{difference}: it was changed on its way or is another file by now. Nothing was kept of "
        "it; try again, or fetch it elsewhere"
    )


def _interrupted(url: str, part: Path, error: Exception) -> str:
    kept = part.stat().st_size
    if not kept:
        part.unlink()
        return f"{url} could not be downloaded ({error})"
    return (
        f"the download of {url} broke off ({error}); {kept} bytes are kept in {part}, and the same "
        "command goes on from there"
    )
