"""The running service against its own documentation, by a tool that thinks up requests."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE, Service

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.slow
def test_the_service_does_what_swagger_json_says_and_never_fails(
    service: Service, tmp_path: Path
) -> None:
    workers = service.workers
    run = [sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIGURATION, "run"]
    options = ["--checks=all", "--max-examples=5", "--seed=1", "--no-color"]
    options.append(f"--request-timeout={PATIENCE}")
    done = subprocess.run(
        [*run, f"{service.url}/swagger.json", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert workers <= service.workers
