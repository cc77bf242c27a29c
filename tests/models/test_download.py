"""Downloads from a real server that breaks connections off, and from one that sends no parts."""

import hashlib

import numpy as np
import pytest

from models.data.download import DownloadError, download

CONTENT = np.random.default_rng(5).bytes(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "below" / "file.zip"


def part_of(target):
    return target.with_name("file.zip.part")


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(serve, target):
    server = serve(CONTENT)
    download(server.url, target, SHA256, SIZE)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    assert server.asked == [None]


def test_a_connection_that_breaks_is_gone_on_with_from_where_it_broke(serve, target):
    server = serve(CONTENT, most=300_000)
    download(server.url, target, SHA256, SIZE)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-"]


def test_what_an_earlier_call_brought_is_kept(serve, target):
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT[:500_000])
    silent = serve(CONTENT, status=503)
    with pytest.raises(DownloadError, match=r"503.*500000 bytes are kept .* continues from there"):
        download(silent.url, target, SHA256, SIZE)
    assert part_of(target).read_bytes() == CONTENT[:500_000]
    server = serve(CONTENT)
    download(server.url, target, SHA256, SIZE)
    assert target.read_bytes() == CONTENT
    assert server.asked == ["bytes=500000-"]


def test_a_server_that_sends_no_parts_is_asked_for_the_whole_again(serve, target):
    target.parent.mkdir()
    part_of(target).write_bytes(b"from another time")
    server = serve(CONTENT, ranges=False)
    download(server.url, target, SHA256, SIZE)
    assert target.read_bytes() == CONTENT


def test_one_that_also_breaks_off_each_time_is_given_up(serve, target):
    server = serve(CONTENT, ranges=False, most=300_000)
    with pytest.raises(DownloadError, match="was interrupted"):
        download(server.url, target, SHA256, SIZE)
    assert len(server.asked) == 2
    assert not target.exists()


def test_a_complete_part_needs_no_more_bytes(serve, target):
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT)
    download(serve(CONTENT).url, target, SHA256, SIZE)
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_what_was_there_stays(serve, target):
    target.parent.mkdir()
    target.write_bytes(b"an earlier file")
    with pytest.raises(DownloadError, match=f"has the SHA-256 {SHA256}, expected 0000"):
        download(serve(CONTENT).url, target, "0" * 64, SIZE)
    assert target.read_bytes() == b"an earlier file"
    assert list(target.parent.iterdir()) == [target]


def test_a_server_that_is_not_there_is_named(target):
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9/x could not be downloaded"):
        download("http://127.0.0.1:9/x", target, SHA256, SIZE)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("told", [True, False])
def test_no_more_is_taken_than_the_file_has(serve, target, told):
    server = serve(CONTENT + b"and more", length=told)
    with pytest.raises(DownloadError, match=r"expected.*700000.*Nothing was kept"):
        download(server.url, target, SHA256, SIZE)
    assert list(target.parent.iterdir()) == []


def test_a_part_that_is_longer_than_the_file_is_dropped(serve, target):
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT + b"and more")
    with pytest.raises(DownloadError, match="SHA-256"):
        download(serve(CONTENT).url, target, SHA256, SIZE)
    assert list(target.parent.iterdir()) == []
