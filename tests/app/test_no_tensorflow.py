"""The service runs where neither TensorFlow nor Keras can be imported."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "jax", "torch", "onnx", "tf2onnx"):
            raise ImportError(f"{name} was imported by the service")

sys.meta_path.insert(0, Forbidden())

from pathlib import Path
from app import create_app
from app.settings import Settings
import wsgi
import app.server.main

application = create_app(Settings(weights=Path(sys.argv[1])))
answer = application.test_client().post("/predict?sample=seven")
assert answer.status_code == 200, answer.text
assert answer.json["predictions"][0]["label"] == "7", answer.text
assert application.test_client().get("/swagger.json").status_code == 200

names = (
    *("aliases", "calibration", "cards", "errors", "files", "parsing", "pictures", "processor"),
    "terminal",
)
shared = {f"models.{name}" for name in names}
learning = {name for name in sys.modules if name.startswith("models.")} - shared
assert not learning, learning
assert "sqlalchemy" not in sys.modules  # no votes are asked for
"""


def test_the_service_answers_where_tensorflow_and_keras_cannot_be_imported(
    repository: Path,
) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SCRIPT, str(repository.resolve())]
    environment = {"METAPLASTIC_WEIGHTS": str(repository.resolve()), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
