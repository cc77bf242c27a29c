"""KServe's client for the Open Inference Protocol, unchanged, against a running service."""

import json
import os
import subprocess
import sys

import pytest

from tests.e2e.conftest import PATIENCE, ROOT, Service
from tests.e2e.digits import LABELS, MODEL

FOLDER = os.environ.get("KSERVE_CLIENT")
HOW = (
    "KSERVE_CLIENT names no folder with KServe's client; "
    "pip install --no-deps --target FOLDER -r tests/e2e/kserve.txt"
)


@pytest.mark.skipif(not FOLDER, reason=HOW)
def test_kserves_client_reads_digits_and_errors(service: Service) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "tests/e2e/ask_with_kserve.py"), service.url, MODEL],
        env={**os.environ, "PYTHONPATH": str(FOLDER)},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["live"], found["ready"], found["model ready"]) == (True, True, True)
    assert found["unknown model ready"] is False
    assert found["digits"] == [LABELS] * 8
    assert found["v1"] == LABELS
    name, shape, datatype = found["errors"]
    assert "There is no input 'x'" in name
    assert "[-1, 28, 28, 1]" in shape
    assert "UINT8, FP16, FP32, FP64" in datatype
