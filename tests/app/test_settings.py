"""Settings come from variables, and a bad one is named in one line."""

import dataclasses
from pathlib import Path

import pytest

from app.settings import (
    VARIABLES,
    Settings,
    SettingsError,
    markdown_table,
    takes_cloud_port,
)


def test_nothing_set_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


def test_an_empty_variable_counts_as_absent() -> None:
    assert Settings.from_environment({"METAPLASTIC_PORT": ""}).port == 5000


def test_variables_are_read() -> None:
    environment = {
        "METAPLASTIC_HOST": "0.0.0.0",
        "METAPLASTIC_PORT": "8080",
        "METAPLASTIC_WEIGHTS": "runs/one",
        "METAPLASTIC_MAX_REQUEST_MIB": "1",
        "METAPLASTIC_MAX_MEGAPIXELS": "2",
    }
    settings = Settings.from_environment(environment)
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    assert settings.weights == Path("runs/one")
    assert settings.max_request_bytes == 1024 * 1024
    assert settings.max_pixels == 2_000_000


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "abc", "expected a whole number from 1 to 65535, found 'abc'"),
        ("PORT", "65536", "expected a whole number from 1 to 65535, found '65536'"),
        ("PORT", "-1", "expected a whole number from 1 to 65535, found '-1'"),
        ("PORT", "1_000", "expected a whole number from 1 to 65535, found '1_000'"),
        ("WORKERS", "0", "expected a whole number from 1 to 256, found '0'"),
        ("LOG_LEVEL", "loud", "expected one of debug, info, warning, error, found 'loud'"),
        ("HOST", "a b", "expected an address or a host name, found 'a b'"),
        ("MODEL", "lenet", "expected <dataset>/<architecture>, such as mnist/lenet, found 'lenet'"),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({f"METAPLASTIC_{name}": value})
    assert str(caught.value) == f"METAPLASTIC_{name}: {message}"


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"METAPLASTIC_PORT": "x", "METAPLASTIC_WORKERS": "y"})
    assert len(str(caught.value).splitlines()) == 2


def test_every_setting_is_in_the_table_with_its_default() -> None:
    assert len(VARIABLES) == len(dataclasses.fields(Settings))
    table = markdown_table()
    for variable in VARIABLES:
        assert f"| `{variable.name}` | {variable.default} | {variable.unit} |" in table


def test_the_table_does_not_tell_where_it_was_made() -> None:
    assert str(Path.cwd()) not in markdown_table()


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({"PORT": "8080"}, ("0.0.0.0", 8080)),
        ({"PORT": "8080", "METAPLASTIC_HOST": "127.0.0.1"}, ("127.0.0.1", 8080)),
        ({"PORT": "8080", "METAPLASTIC_PORT": ""}, ("0.0.0.0", 8080)),
        ({"PORT": "8080", "METAPLASTIC_PORT": "9090"}, ("127.0.0.1", 9090)),
        ({"PORT": " "}, ("127.0.0.1", 5000)),
    ],
)
def test_the_port_of_a_cloud_platform_is_used_where_there_is_none_of_ours(
    given: dict[str, str], address: tuple[str, int]
) -> None:
    settings = Settings.from_environment(given)
    assert (settings.host, settings.port) == address
    assert takes_cloud_port(given) == (settings.port == 8080)


def test_a_bad_port_of_a_cloud_platform_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"PORT": "http"})
    assert str(caught.value) == "PORT: expected a whole number from 1 to 65535, found 'http'"


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("METAPLASTIC_PROT", "METAPLASTIC_PORT"),
        ("METAPLASTIC_WORKER", "METAPLASTIC_WORKERS"),
        ("METAPLASTIC_GRACEFUL", "METAPLASTIC_GRACEFUL_TIMEOUT"),
        ("metaplastic_port", "METAPLASTIC_PORT"),
        ("METAPLASTIC_", "METAPLASTIC_"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({wrong: "1"})
    told = f"{wrong}: there is no such setting; the nearest is {nearest}"
    assert str(caught.value).startswith(told)


def test_a_variable_of_the_training_is_no_misspelt_setting() -> None:
    assert Settings.from_environment({"METAPLASTIC_DATA": "/data"}) == Settings()


def test_what_kubernetes_sets_for_a_service_of_our_name_is_told_from_a_setting() -> None:
    links = {
        "METAPLASTIC_PORT": "tcp://10.0.0.1:80",
        "METAPLASTIC_SERVICE_HOST": "10.0.0.1",
        "METAPLASTIC_SERVICE_PORT": "80",
        "METAPLASTIC_SERVICE_PORT_HTTP": "80",
        "METAPLASTIC_PORT_80_TCP": "tcp://10.0.0.1:80",
        "METAPLASTIC_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({**links, "METAPLASTIC_PROT": "1"})
    misspelt, linked, port = str(caught.value).splitlines()
    assert "the nearest is METAPLASTIC_PORT" in misspelt
    assert all(name in linked for name in set(links) - {"METAPLASTIC_PORT"})
    assert "enableServiceLinks: false" in linked
    assert port.startswith("METAPLASTIC_PORT: expected a whole number")


@pytest.mark.parametrize(("written", "address"), [("[::]", "::"), ("[::1]", "::1"), ("::1", "::1")])
def test_an_address_may_be_written_as_in_a_url(written: str, address: str) -> None:
    assert Settings.from_environment({"METAPLASTIC_HOST": written}).host == address
