"""Keys: who may ask, who may not, and keys that change while the service runs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.web.keys import KeyFileError, hash_of, read_keys
from tests.app.asking import LENET, refused

Make = Callable[..., FlaskClient]
ALICE, ADMIN = "alice's key", "the admin's key"


def line(name: str, key: str, role: str = "user") -> str:
    return f"{name} {role} {hash_of(key)}\n"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text("# who may ask\n\n" + line("alice", ALICE) + line("root", ADMIN, "admin"))
    return path


@pytest.fixture
def client(make_client: Make, repository: Path, keys: Path) -> FlaskClient:
    return make_client(weights=repository, keys=keys)


def ask(client: FlaskClient, key: str | None, **more: Any) -> Any:
    headers = {} if key is None else {"X-API-Key": key}
    return client.post(f"{LENET}?sample=one", headers=headers, **more)


def test_without_a_key_nobody_is_answered(client: FlaskClient) -> None:
    response = ask(client, None)
    refused(response, 401, "missing_key")
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("key", ["", "wrong", ALICE + " ", ALICE[:-1], "\u00e4", "x" * 10_000])
def test_a_wrong_key_is_refused(client: FlaskClient, key: str) -> None:
    refused(ask(client, key), 401, "unknown_key" if key.strip() else "missing_key")


def test_the_hash_itself_is_no_key(client: FlaskClient) -> None:
    refused(ask(client, hash_of(ALICE)), 401, "unknown_key")


@pytest.mark.parametrize("key", [ALICE, ADMIN])
def test_a_key_is_shown_in_either_header(client: FlaskClient, key: str) -> None:
    assert ask(client, key).status_code == 200
    bearer = {"Authorization": f"Bearer {key}"}
    assert client.post(f"{LENET}?sample=one", headers=bearer).status_code == 200


@pytest.mark.parametrize("path", ["/", "/swagger.json", "/health/live", "/v2/health/ready"])
def test_the_documentation_and_the_probes_are_for_everybody(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/api/models", "/metrics", "/v2", "/v1/models/x", "/nowhere"])
def test_all_else_is_not(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 401


def test_the_standard_protocols_say_so_in_their_shape(client: FlaskClient) -> None:
    response = client.get("/v2/models/mnist-lenet-metaplastic")
    assert (response.status_code, list(response.json)) == (401, ["error"])


def test_keys_change_without_a_restart(client: FlaskClient, keys: Path) -> None:
    assert ask(client, ALICE).status_code == 200
    new = keys.with_suffix(".new")
    new.write_text(line("alice", "another key"))
    new.replace(keys)
    refused(ask(client, ALICE), 401, "unknown_key")
    assert ask(client, "another key").status_code == 200


@pytest.mark.parametrize("content", ["", "\n# nobody\n", None])
def test_an_empty_or_missing_file_lets_nobody_in_and_says_so(
    client: FlaskClient, keys: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(client, ALICE).status_code == 200
    before = keys.read_text()
    if content is None:
        keys.unlink()
    else:
        keys.write_text(content)
    for _ in range(3):
        refused(ask(client, ALICE), 401, "unknown_key")
    assert caplog.text.count("has no key. All callers are refused") == 1
    keys.write_text(before)
    assert ask(client, ALICE).status_code == 200


def test_a_bad_line_is_reported_and_the_others_hold(
    client: FlaskClient, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys.write_text(line("root", ADMIN, "admin") + "alice user 1234\n" + line("bob", "bob's"))
    for _ in range(3):
        refused(ask(client, ALICE), 401, "unknown_key")  # taken out, whatever else was done
        assert ask(client, ADMIN).status_code == ask(client, "bob's").status_code == 200
    assert caplog.text.count("keys.txt line 2: expected `name role sha256`") == 1


def test_an_edit_in_place_that_leaves_time_and_size_is_seen(
    client: FlaskClient, keys: Path
) -> None:
    assert ask(client, ALICE).status_code == 200
    before = keys.stat()
    text = keys.read_text()
    with keys.open("r+") as file:
        file.write(text.replace(hash_of(ALICE), hash_of("other")))
    os.utime(keys, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = keys.stat()
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (
        before.st_mtime_ns,
        before.st_size,
        before.st_ino,
    )
    refused(ask(client, ALICE), 401, "unknown_key")
    assert ask(client, "other").status_code == 200


def test_a_file_that_cannot_be_read_for_the_moment_lets_nobody_in(
    client: FlaskClient, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = keys.read_text()
    keys.unlink()
    keys.mkdir()
    for _ in range(2):
        refused(ask(client, ALICE), 503, "keys_unreadable")
    assert caplog.text.count("keys.txt cannot be read (Is a directory)") == 1
    keys.rmdir()
    keys.write_text(text)
    assert ask(client, ALICE).status_code == 200


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_file_that_turns_into_something_else_keeps_nobody_waiting(
    client: FlaskClient, keys: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = keys.read_text()
    keys.unlink()
    if kind == "pipe":
        os.mkfifo(keys)
    else:
        keys.symlink_to("/dev/zero")
    for _ in range(2):
        refused(ask(client, ALICE), 503, "keys_unreadable")
    assert caplog.text.count("keys.txt cannot be read (Not a regular file)") == 1
    with pytest.raises(KeyFileError, match="Not a regular file"):
        read_keys(keys)
    keys.unlink()
    keys.write_text(text)
    assert ask(client, ALICE).status_code == 200


def test_a_byte_order_mark_is_read_over(
    tmp_path: Path, make_client: Make, repository: Path
) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(line("alice", ALICE), encoding="utf-8-sig")
    assert ask(make_client(weights=repository, keys=path), ALICE).status_code == 200


@pytest.mark.parametrize(
    "text", ["alice", "alice user 12", f"alice boss {hash_of('x')}", f"a/b user {hash_of('x')}"]
)
def test_a_file_that_cannot_be_read_stops_the_start(
    tmp_path: Path, make_client: Make, repository: Path, text: str
) -> None:
    path = tmp_path / "keys.txt"
    path.write_text("# first\n" + text)
    with pytest.raises(KeyFileError, match=r"keys\.txt line 2: expected `name role sha256`"):
        make_client(weights=repository, keys=path)


def test_a_file_that_is_not_there_stops_the_start(
    tmp_path: Path, make_client: Make, repository: Path
) -> None:
    with pytest.raises(KeyFileError, match=r"METAPLASTIC_KEYS: .* cannot be read"):
        make_client(weights=repository, keys=tmp_path / "nothing")


def test_only_an_admins_key_loads_models(client: FlaskClient) -> None:
    url = "/v2/repository/models/mnist-lenet-metaplastic/load"
    assert client.post(url, headers={"X-API-Key": ALICE}).status_code == 403
    assert client.post(url).status_code == 401


def test_swagger_asks_for_the_key(client: FlaskClient) -> None:
    spec = client.get("/swagger.json").json
    assert spec["securityDefinitions"] == {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    }
    assert spec["security"] == [{"key": []}]
    refused = spec["paths"][LENET]["post"]["responses"]["401"]
    assert refused["examples"]["application/json"] == client.post(LENET).json
    assert "401" not in spec["paths"]["/health/live"]["get"]["responses"]


def test_without_keys_swagger_asks_for_none(application: Any) -> None:
    spec = application.test_client().get("/swagger.json").json
    assert "securityDefinitions" not in spec


def new_key(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", "-m", "app.new_key", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_makes_a_key_and_its_line(
    tmp_path: Path, make_client: Make, repository: Path
) -> None:
    path = tmp_path / "keys.txt"
    made = [new_key("alice", "--file", str(path)), new_key("root", "--admin", "--file", str(path))]
    alice, root = (one.stdout.strip() for one in made)
    assert [(key.name, key.role) for key in read_keys(path)] == [
        ("alice", "user"),
        ("root", "admin"),
    ]
    assert alice not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    client = make_client(weights=repository, keys=path)
    assert ask(client, alice).status_code == ask(client, root).status_code == 200
    shown = new_key("bob")
    assert shown.stderr == f"bob user {hash_of(shown.stdout.strip())}\n"
    assert new_key("a b").returncode == 2


def test_the_command_ends_a_last_line_that_nobody_ended(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(line("alice", ALICE).rstrip("\n"))
    bob = new_key("bob", "--file", str(path)).stdout.strip()
    assert path.read_text() == line("alice", ALICE) + line("bob", bob)


def test_the_command_says_what_it_cannot_write_to(tmp_path: Path) -> None:
    result = new_key("bob", "--file", str(tmp_path))
    assert (result.returncode, result.stdout) == (2, "")
    assert f"{tmp_path}: Is a directory" in result.stderr
