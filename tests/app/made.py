"""Models made for a test: small ONNX files whose answers are known, and cards that fit them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = Path(__file__).parents[2] / "weights"
_VERSIONS = (WEIGHTS / "mnist/lenet/metaplastic").iterdir()
LENET = max(_VERSIONS, key=lambda version: int(version.name))  # as published last
CARD = json.loads((LENET / "card.json").read_text())
INPUTS = {
    "digit": {"height": 28, "width": 28, "channels": 1, "mean": [0.13], "std": [0.31]},
    "garment": {"height": 28, "width": 28, "channels": 1, "mean": [0.29], "std": [0.35]},
    "photo": {"height": 32, "width": 32, "channels": 3, "mean": [0.49] * 3, "std": [0.25] * 3},
}


def linear(weights: np.ndarray[Any, Any], target: Path) -> None:
    """An ONNX file whose logits are the picture times `weights` (height, width, channels, C)."""
    *image, classes = weights.shape
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", *image])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])
    kernel = weights.reshape(-1, classes).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "kernel"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "linear", [pixels], [logits], [numpy_helper.from_array(kernel, "kernel")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    target.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(target))


def scores(classes: int) -> dict[str, Any]:
    """The part of a card that says how well a model of so many classes does, made up."""
    made_up = {
        "images": 100 * classes,
        "accuracy": 0.9,
        "interval": [0.88, 0.92],
        "per_class": [0.9] * classes,
        "confusion": (
            90 * np.eye(classes, dtype=int) + 10 * np.eye(classes, k=1, dtype=int)
        ).tolist(),
    }
    return {"validation": made_up, "test": made_up}


def put_linear(
    folder: Path,
    *,
    dataset: str,
    architecture: str,
    style: str,
    labels: list[str],
    weights: np.ndarray[Any, Any] | None = None,
    **changes: Any,
) -> Path:
    """A made model in `folder`: its card, its scores made up, and weights drawn by its name."""
    image = INPUTS[style]
    classes, shape = len(labels), (image["height"], image["width"], image["channels"])
    if weights is None:
        seed = sum(f"{dataset}{architecture}".encode())
        weights = np.random.default_rng(seed).normal(0, 0.3, (*shape, classes))
    folder.mkdir(parents=True, exist_ok=True)
    linear(weights, folder / "model.onnx")
    card = {
        **CARD,
        "dataset": dataset,
        "architecture": architecture,
        "labels": labels,
        "input": {**image, "style": style},
        "calibration": {**CARD["calibration"], "temperature": 1.0, "energy_threshold": -1000.0},
        "parameters": int(np.prod((*shape, classes))),
        "multiply_adds": int(np.prod((*shape, classes))),
        **scores(classes),
        "control": None,
        "files": {},
        **changes,
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder
