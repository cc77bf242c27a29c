"""CONTRIBUTING.md is carried out word for word on a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.training.runs import read_history

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"```(?:python|toml)\n# (?P<file>\S+?)(?:: (?P<how>[^\n]+))?\n(?P<text>.*?)```", re.S
)


def apply(project, file, how, text):
    """Do what a block of the guide says."""
    path = project / file
    if how is None:
        assert not path.exists()
        path.write_text(text)
        return
    before = path.read_text()
    if how == "add":
        after = f"{before}\n{text}"
    elif how == "add to DATASETS":
        after = before.replace("    for dataset in (\n", f"    for dataset in (\n{text}", 1)
    elif how == "add to the imports":
        after = before.replace(
            "from app.catalogue.catalogue", f"{text}from app.catalogue.catalogue", 1
        )
    elif how == "add to the namespaces":
        line = "        models_api.namespace(catalogue),\n"
        after = before.replace(line, text + line, 1)
    else:
        raise AssertionError(f"the guide says {how!r}, which this test does not know how to do")
    assert after != before, f"{file} has no place for: {how}"
    path.write_text(after)


def write_stripes(folder):
    random = np.random.default_rng(0)
    labels = np.arange(80, dtype=np.uint8) % 2
    stripes = np.zeros((80, 32, 32, 3), np.uint8)
    stripes[:, ::4] = 200
    stripes[labels == 1] = stripes[labels == 1].transpose(0, 2, 1, 3)
    images = stripes + random.integers(0, 50, stripes.shape, dtype=np.uint8)
    np.savez(folder / "stripes.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project in which all four sections have been carried out."""
    project = tmp_path_factory.mktemp("contributing") / "project"
    for folder in ("app", "models", "studies", "tests"):
        shutil.copytree(
            ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file in ("metaplastic_command.py", "wsgi.py", "pyproject.toml"):
        shutil.copy(ROOT / file, project)
    if (ROOT / ".mypy_cache").is_dir():  # with which mypy checks what is new alone
        shutil.copytree(ROOT / ".mypy_cache", project / ".mypy_cache")
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    blocks = list(BLOCK.finditer(guide))
    assert len(blocks) == guide.count("```python") + guide.count("```toml")
    for block in blocks:
        apply(project, block["file"], block["how"], block["text"])
    write_stripes(project)
    return project


def run(project, *command):
    environment = {**os.environ, "METAPLASTIC_DATA": str(project), "PYTHONPATH": str(project)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_the_map_has_a_line_for_each_folder():
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"^\| `([a-z/]+)/` \|", guide, re.M)
    assert [name for name in named if not (ROOT / name).is_dir()] == []
    packages = [
        path.parent.relative_to(ROOT)
        for pattern in ("*/__init__.py", "app/*/__init__.py", "models/*/__init__.py")
        for path in ROOT.glob(pattern)
    ]
    assert [str(package) for package in packages if str(package) not in named] == []


def test_what_the_guide_adds_passes_the_linters(project):
    for command in (["ruff", "check", "."], ["mypy"]):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (0, 1), done.stderr  # it ran, and it found problems or none
        # A line added at the end of a file is where a test can put it, not where ruff wants it.
        problems = [
            line
            for line in done.stdout.splitlines()
            if re.match(r"\S+\.py:\d+|[A-Z]+\d+ ", line) and not line.startswith(("E402", "I001"))
        ]
        assert problems == []


def test_a_new_architecture_has_the_size_that_it_says(project):
    tests = ["-q", "-n", "0", "tests/models/test_architectures.py", "-k", "pyramid"]
    done = run(project, "-m", "pytest", *tests)
    assert re.search(r"\d+ passed", done.stdout)


def test_new_data_learned_by_a_new_rule_is_served_at_once(project, tmp_path):
    train = ["-m", "models", "train", "stripes", "lenet"]
    settings = ["--epochs", "10", "--batch-size", "8", "--set", "sign.shrink=0.02"]
    run(project, *train, "--rule", "sign", *settings)
    (folder,) = (project / "runs").iterdir()
    losses = [epoch["loss"] for epoch in read_history(folder)]
    assert losses[-1] < losses[0] / 2  # it learns
    ask = (
        "import io, json, numpy, sys\n"
        "from pathlib import Path\n"
        "from PIL import Image\n"
        "from app import create_app\n"
        "from app.settings import Settings\n"
        "client = create_app(Settings(weights=Path(sys.argv[1]))).test_client()\n"
        "png = io.BytesIO()\n"
        "Image.fromarray(numpy.load('stripes.npz')['x_test'][1]).save(png, 'PNG')\n"
        "png.seek(0)\n"
        "answer = client.post('/api/stripes/lenet', data={'file': (png, 'a.png')}).json\n"
        "paths = list(client.get('/swagger.json').json['paths'])\n"
        "print(json.dumps([answer, client.get('/labels').json, paths]))\n"
    )
    printed = run(project, "-c", ask, str(folder)).stdout.splitlines()  # log lines come before
    answer, labels, paths = json.loads(printed[-1])
    assert answer["model"] == "stripes-lenet-sign"
    assert answer["predictions"][0]["label"] in ("lying", "standing")
    assert labels == {"stripes/lenet": ["lying", "standing"]}
    assert {"/api/stripes/lenet", "/labels"} <= set(paths)
