"""From a folder of pictures to curl's right answer, by commands alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.backends import FASTEST
from tests.e2e.conftest import ROOT
from tests.models.drawn import SHAPES, draw_shapes, shape


def models(*command: object, data: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "models", *map(str, command)],
        cwd=ROOT,
        # One thread: small batches gain nothing by two, and lose much where others compute.
        env={
            **os.environ,
            "METAPLASTIC_DATA": str(data),
            "KERAS_BACKEND": FASTEST,
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def label_of(picture: Path, url: str) -> str:
    command = ["curl", "-s", "-F", f"file=@{picture}", f"{url}/api/shapes/lenet"]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    (prediction,) = answer["predictions"]
    return str(prediction["label"])


@pytest.mark.slow
def test_six_hundred_drawn_shapes_become_an_endpoint_that_is_right(tmp_path, start):
    folder, data = draw_shapes(tmp_path / "in", 200), tmp_path / "data"
    models("data", "add", "shapes", folder, "--size", "32", data=data)
    runs, shelf = tmp_path / "runs", tmp_path / "weights"
    models("train", "shapes", "lenet", "--epochs", 15, "--runs", runs, data=data)
    (run,) = runs.iterdir()
    random = np.random.default_rng(99)  # pictures that nobody has seen
    unseen = {}
    for number in range(10):
        for kind in SHAPES:
            unseen[tmp_path / f"{kind}-{number}.png"] = kind
            shape(kind, random).save(tmp_path / f"{kind}-{number}.png")
    with start(weights=run, model="shapes/lenet") as service:
        right = [label_of(path, service.url) == kind for path, kind in unseen.items()]
        assert sum(right) >= 28
        assert label_of(next(folder.glob("circle/*.jpg")), service.url) == "circle"
        form = requests.get(f"{service.url}/swagger.json").json()["paths"]["/api/shapes/lenet"]
        names = {parameter["name"] for parameter in form["post"]["parameters"]}
        assert "file" in names
        assert "sample" not in names  # nobody's pictures are published unasked

    models("publish", run, "--shelf", shelf, "--publish-samples", "--docs", tmp_path, data=data)
    with start(weights=shelf, model="shapes/lenet") as service:
        for kind in SHAPES:
            answer = requests.post(f"{service.url}/api/shapes/lenet", data={"sample": kind}).json()
            assert answer["predictions"][0]["label"] == kind
        form = requests.get(f"{service.url}/swagger.json").json()["paths"]["/api/shapes/lenet"]
        (sample,) = (one for one in form["post"]["parameters"] if one["name"] == "sample")
        assert sample["enum"] == list(SHAPES)

    out = models("evaluate", "shapes", "lenet", "--shelf", shelf, data=data)
    assert "DIFFERS" not in out


@pytest.mark.slow
def test_rules_are_compared_on_drawn_shapes(tmp_path):
    folder, data = draw_shapes(tmp_path / "in", 20), tmp_path / "data"
    models("data", "add", "shapes", folder, "--size", "28", data=data)
    settings = ("--seeds", 2, "--epochs", 1, "--comparisons", tmp_path / "comparisons")
    out = models("compare", "shapes", "lenet", *settings, data=data)
    assert "consolidating 3" in out
