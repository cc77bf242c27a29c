"""From votes over HTTP to a better answer and back: the service and the learner, on digits."""

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from app.web.keys import hash_of
from models.data.datasets import load
from studies.shifts import SHIFTS
from tests.backends import FASTEST
from tests.e2e.conftest import PATIENCE, ROOT, Service, running

pytestmark = [pytest.mark.slow, pytest.mark.data]

PUBLISHED = "mnist/lenet/metaplastic/4"
VOTES = 400
USERS = 12


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """API keys of an admin and of users, in the file `keys`."""
    users = {f"user{number}": "user" for number in range(USERS)}
    kinds = {"admin": "admin", **users}
    lines = [f"{name} {kind} {hash_of(f'{name}-key')}\n" for name, kind in kinds.items()]
    (tmp_path / "keys").write_text("".join(lines))
    return {name: f"{name}-key" for name in kinds}


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    shutil.copytree(ROOT / "weights" / PUBLISHED, tmp_path / "weights" / PUBLISHED)
    return {
        "weights": tmp_path / "weights",
        "feedback": f"sqlite:///{tmp_path / 'votes.db'}",
        "keys": tmp_path / "keys",
        "workers": 2,
        "canary": 0.5,  # of the pictures on which champion and challenger disagree
    }


class Users:
    """People with keys of their own, who send turned digits and know what they show."""

    def __init__(self, service: Service, keys: dict[str, str]) -> None:
        self.url, self.keys = service.url, keys
        arrays = load("mnist")
        self.digits = SHIFTS["rotated 45"](arrays.x_test[:1000])
        self.labels = arrays.y_test[:1000]

    def call(self, verb: str, path: str, user: str = "admin", **content: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.keys[user]}"}
        return requests.request(
            verb, f"{self.url}{path}", headers=headers, timeout=PATIENCE, **content
        )

    def ask(self, place: int, user: str) -> dict[str, Any]:
        file = io.BytesIO()
        Image.fromarray(self.digits[place].squeeze()).save(file, "PNG")
        files = {"file": ("digit.png", file.getvalue())}
        answer = self.call("POST", "/api/mnist/lenet", user, files=files)
        assert answer.status_code == 200, answer.text
        prediction: dict[str, Any] = answer.json()["predictions"][0]
        return prediction

    def vote(self, place: int) -> None:
        """Give a thumb up for a right answer, else the right label."""
        user = f"user{place % USERS}"
        prediction = self.ask(place, user)
        label = str(self.labels[place])
        right = prediction["label"] == label
        content = {"prediction_id": prediction["prediction_id"]}
        content |= {"reward": 1} if right else {"label": label}
        accepted = self.call("POST", "/api/feedback", user, json=content)
        assert accepted.status_code == 202, accepted.text

    def thumb(self, place: int) -> None:
        """Give a thumb up or down."""
        user = f"user{place % USERS}"
        prediction = self.ask(place, user)
        right = prediction["label"] == str(self.labels[place])
        content = {"prediction_id": prediction["prediction_id"], "reward": int(right)}
        accepted = self.call("POST", "/api/feedback", user, json=content)
        assert accepted.status_code == 202, accepted.text

    def right(self, places: range) -> tuple[float, set[int]]:
        """Return the share of right answers to these digits, and the versions that answered."""
        found = [self.ask(place, "admin") for place in places]
        wanted = [str(self.labels[place]) for place in places]
        rights = [one["label"] == label for one, label in zip(found, wanted, strict=True)]
        return float(np.mean(rights)), {self.version()}

    def version(self) -> int:
        """Return the version that answers."""
        champion: int = self.call("GET", "/api/mnist/lenet/learning").json()["champion"]
        return champion


@pytest.fixture
def users(keys: dict[str, str], settings: dict[str, Any]) -> Iterator[Users]:
    with running(**settings) as service:
        yield Users(service, keys)


def learn(settings: dict[str, Any], canary: float = 0.0) -> str:
    """Run the learner once and return what it said."""
    given = {"weights": settings["weights"], "feedback": settings["feedback"], "canary": canary}
    variables = {f"METAPLASTIC_{name.upper()}": str(value) for name, value in given.items()}
    done = subprocess.run(
        [sys.executable, "-m", "models", "learn", "mnist/lenet"],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": FASTEST, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)  # between two looks


def test_votes_make_the_answers_better_and_a_rollback_brings_the_former_ones_back(
    users: Users, settings: dict[str, Any]
) -> None:
    before, _ = users.right(range(800, 1000))
    for place in range(VOTES):  # one after another, so that the votes are the same each time
        users.vote(place)
    said = learn(settings)
    assert "home passed" in said
    assert "stream passed" in said
    assert "version 5: promoted" in said
    wait_until(lambda: users.version() == 5)
    after, _ = users.right(range(800, 1000))
    assert after >= before + 0.05
    learned = users.call("GET", "/api/mnist/lenet/learning").json()
    assert learned["votes"] == VOTES
    assert learned["last_challenger"]["outcome"] == "promoted"
    assert {gate["gate"] for gate in learned["last_challenger"]["gates"]} == {"home", "stream"}
    assert users.call("POST", "/api/mnist/lenet/rollback").status_code == 202
    wait_until(lambda: users.version() == 4)
    assert users.right(range(800, 1000))[0] == before


def test_a_challenger_that_thumbs_cannot_judge_waits_for_the_canary(
    users: Users, settings: dict[str, Any]
) -> None:
    for place in range(VOTES):  # one after another, so that the votes are the same each time
        users.thumb(place)
    said = learn(settings, canary=0.5)
    assert "home passed" in said
    assert "stream undecided" in said
    assert "version 5: waiting" in said
    assert users.version() == 4
    learned = users.call("GET", "/api/mnist/lenet/learning").json
    wait_until(lambda: learned().get("challenger") == 5)
    for _ in range(3):  # until the first look that can tell
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(users.thumb, range(VOTES, 1000)))
        said = learn(settings, canary=0.5)
        if "waiting" not in said:
            break
    assert "canary passed" in said
    assert "version 5: promoted" in said
    wait_until(lambda: users.version() == 5)
