from pathlib import Path
from typing import Annotated

import bentoml
import common
from bentoml.validators import ContentType


@bentoml.service(
    workers=common.WORKERS, metrics={"enabled": False}, logging={"access": {"enabled": False}}
)
class Classifier:
    def __init__(self) -> None:
        self.network = common.open_onnx()

    @bentoml.api
    def predict(self, file: Annotated[Path, ContentType("image/png")]) -> dict[str, object]:
        return common.answer(self.network(common.pixels_of(file.read_bytes())))
