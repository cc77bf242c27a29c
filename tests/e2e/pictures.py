"""The pictures of README and docs: the browser's tests take them, each says what it shows."""

import json
import os
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

VARIABLE = "README_SCREENSHOTS"  # names the folder for them; without it none is taken


def folder() -> Path | None:
    """Return the folder that the pictures are wanted in, None where none is wanted."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def record_model(path: Path, answer: dict[str, object]) -> None:
    """Write into a PNG's text the model and version that gave `answer`, which it shows."""
    text = PngInfo()
    text.add_text("models", json.dumps({str(answer["model"]): answer["version"]}))
    with Image.open(path) as picture:
        picture.load()
    picture.save(path, pnginfo=text, optimize=True)


def recorded_models(path: Path) -> dict[str, int]:
    """Return the models that a picture shows, each with its version."""
    with Image.open(path) as picture:
        models: dict[str, int] = json.loads(picture.text["models"])
    return models
