"""The calls in README and docs answer what stands beside them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PATIENCE, ROOT, Service

CALL = re.compile(r"((?:    [^ \n][^\n]*\n)+)\n```json\n([^`]*)\n```")
FILES = ("README.md", "docs/api.md", "docs/protocols.md")
CALLS = [
    (file, *match.groups())
    for file in FILES
    for match in CALL.finditer((ROOT / file).read_text())
    if all(
        re.match(r" *(curl (-s )?(-F \S+ )?localhost:5000/|python -c |IMAGE=)", line)
        for line in match[1].splitlines()
    )
]


def test_nothing_but_questions_is_run() -> None:
    words = {line.split()[0] for _, commands, _ in CALLS for line in commands.splitlines()}
    assert words <= {"curl", "python", "IMAGE=$(base64"}


def run(command: list[str], service: Service, folder: Path) -> str:
    script = command[-1].replace("localhost:5000", f"127.0.0.1:{service.port}")
    script = script.replace("/tmp/", f"{folder}/")
    result = subprocess.run(
        [*command[:-1], script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def alike(found: Any, shown: Any) -> bool:
    """Equal, but for what another processor makes of the last digits."""
    if isinstance(shown, float):
        return bool(found == pytest.approx(shown, rel=1e-3, abs=1e-9))
    if isinstance(shown, list):
        return len(found) == len(shown) and all(map(alike, found, shown))
    if isinstance(shown, dict):
        return list(found) == list(shown) and all(alike(found[k], shown[k]) for k in shown)
    return bool(found == shown)


@pytest.mark.parametrize(("file", "commands", "shown"), CALLS)
def test_a_call_has_its_real_answer(
    service: Service, tmp_path: Path, file: str, commands: str, shown: str
) -> None:
    script = re.sub("^    ", "", commands, flags=re.M)
    found = json.loads(run(["bash", "-ec", script], service, tmp_path))
    assert alike(found, json.loads(shown)), f"{file}: {found}"


def test_there_are_calls_of_each_protocol() -> None:
    calls = "".join(commands for _, commands, _ in CALLS)
    assert all(route in calls for route in ("/predict", "/v2/", "/v1/"))


def test_the_example_for_tritons_client_prints_what_it_says(
    service: Service, tmp_path: Path
) -> None:
    page = (ROOT / "docs/protocols.md").read_text()
    (code,) = re.findall(r"```python\n(import numpy.*?)\n```", page, re.S)
    shown = code.rpartition("# ")[2]
    assert run([sys.executable, "-c", code], service, tmp_path).strip() == shown
