"""A network in 8-bit integers: half to a third of the time where the processor multiplies them.

Static quantisation by ONNX Runtime: each weight and each activation becomes one of 256 values,
weights with a scale for each output map, activations with a scale for each tensor, which a few
training images set.
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from models.cards import INT8_MODEL, ONNX_MODEL
from models.data.datasets import Images

IMAGES = 300  # of the training split
# Of a tensor's values this share sets its range, and the rest is cut off. The few largest would
# leave too few steps to the others: on the validation splits of CIFAR-10 the whole range changed
# 2.0 % of the answers of `deep`, 0.8 % of GoogLeNet's and 0.5 % of VGG's, this one 0.9, 0.7, 0.3.
_PERCENTILE = 99.999


def calibration_images(images: Images) -> npt.NDArray[np.uint8]:
    """Return the images that set the ranges: the same 300 whenever the training split is."""
    chosen = np.random.default_rng(0).permutation(len(images))[:IMAGES]
    return images[np.sort(chosen)]


def quantise(folder: Path, images: npt.NDArray[np.float32]) -> Path:
    """Write `model.int8.onnx` beside the `model.onnx` in `folder`, at once, and return its path.

    `images` (N, height, width, channels) in 0..1 set the activations' ranges.
    """
    # ONNX Runtime reports the use of it to its makers, from its import on, unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        """Hands out the images one by one."""

        def __init__(self, name: str) -> None:
            self._images = iter(images[:, None])
            self._name = name

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            image = next(self._images, None)
            return None if image is None else {self._name: image}

    onnxruntime.set_default_logger_severity(3)
    partial = folder / f".partial-{INT8_MODEL}"
    (image,) = onnx.load(folder / ONNX_MODEL).graph.input
    with tempfile.TemporaryDirectory() as directory, _silent():
        prepared = Path(directory) / ONNX_MODEL  # multiplied out, as ONNX Runtime opens it
        quant_pre_process(folder / ONNX_MODEL, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            *(prepared, partial, Reader(image.name)),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": _PERCENTILE},
        )
    return partial.replace(folder / INT8_MODEL)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without ONNX Runtime's own account of what it does, which it prints and logs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
            yield
    finally:
        logging.disable(before)
