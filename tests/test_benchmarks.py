"""Every benchmark that benchmarks/README.md names can be started."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"python -m benchmarks\.(\w+)", README)))


def test_the_readme_names_every_command():
    files = ROOT.glob("benchmarks/*.py")
    commands = {path.stem for path in files if "ArgumentParser" in path.read_text()}
    assert commands == set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_a_benchmark_says_how_it_is_used(name):
    started = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert started.stdout.startswith(f"usage: {name}.py")
