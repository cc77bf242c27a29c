"""Settings come from variables, and a bad one is named in one line."""

import dataclasses
from pathlib import Path

import pytest

from app.settings import VARIABLES, Settings, SettingsError, markdown_table


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
