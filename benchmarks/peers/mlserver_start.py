"""Start MLServer. It reads its settings from files, which are written to a new folder here."""

import json
import os
import sys
import tempfile
from pathlib import Path

import common

folder = Path(tempfile.mkdtemp())
settings = {
    "host": "127.0.0.1",
    "http_port": int(os.environ["PORT"]),
    "grpc_port": int(os.environ["PORT2"]),
    "metrics_port": int(os.environ["PORT3"]),
    "parallel_workers": common.WORKERS,
    "debug": False,
    "use_structured_logging": False,
}
model = {"name": "model", "implementation": "mlserver_server.Classifier"}
(folder / "settings.json").write_text(json.dumps(settings))
(folder / "model-settings.json").write_text(json.dumps(model))
environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
program = str(Path(sys.executable).with_name("mlserver"))
os.execve(program, [program, "start", str(folder)], environment)
