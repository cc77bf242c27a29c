"""The table of rate-limit counts: a fixed number of rows, right across processes."""

import os
import time

import pytest

from app.web.addresses import network_of
from app.web.rate_limit_store import RateLimitStore, Table


def test_counts_add_up_within_a_window_and_begin_again_after_it() -> None:
    table = Table(64)
    assert [table.add("a", 0.2, 1)[0] for _ in range(3)] == [1, 2, 3]
    assert table.add("b", 60, 5)[0] == 5
    count, seconds = table.look("b")
    assert (count, 59 < seconds <= 60) == (5, True)
    deadline = time.monotonic() + 10
    while table.look("a")[0]:  # until its window is over
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert table.add("a", 60, 1)[0] == 1
    table.forget("a")
    assert (table.look("a")[0], table.look("b")[0]) == (0, 5)
    table.forget()
    assert table.look("b")[0] == 0


def test_a_full_table_forgets_who_asked_least_and_says_so() -> None:
    table = Table(8)
    for _ in range(3):
        table.add("busy", 60, 1)
    forgotten = [table.add(f"once {number}", 60, 1)[1] for number in range(1000)]
    assert forgotten == [False] * 7 + [True] * 993
    assert table.forgotten == 993
    assert table.look("busy")[0] == 3
    assert table.add("busy", 60, 1) == (4, False)


def test_windows_that_are_over_make_room_first() -> None:
    table = Table(8)
    for number in range(8):
        table.add(f"short {number}", 0.001, 100)
    while any(table.look(f"short {number}")[0] for number in range(8)):
        time.sleep(0.001)
    assert not any(table.add(f"long {number}", 60, 1)[1] for number in range(8))
    assert [table.look(f"long {number}")[0] for number in range(8)] == [1] * 8


def test_the_log_says_once_in_a_while_that_the_table_is_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counts = RateLimitStore()
    counts.table = Table(8)
    assert [counts.incr(f"key {number}", 60) for number in range(100)] == [1] * 100
    assert counts.table.forgotten == 92
    assert caplog.text.count("counts are deleted before their time") == 1


def test_processes_share_it_and_none_that_ends_leaves_it_locked() -> None:
    table = Table(64)
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            for _ in range(500):
                table.add("all", 60, 1)
            if number == 0:
                with table._locked():
                    os._exit(0)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert table.add("all", 60, 1)[0] == 2001


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "no address"),
    ],
)
def test_a_caller_is_an_ipv4_address_or_an_ipv6_network(address: str, caller: str) -> None:
    assert network_of(address) == caller
