"""From arrays to probabilities: the `infer` stage, with ONNX Runtime."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.memory import return_freed_memory
from app.records import timed
from models.contrast import contrasts

if TYPE_CHECKING:
    from models.cards import Calibration


class ModelError(Exception):
    """A file that ONNX Runtime cannot run, or whose inputs or outputs are not as they should be."""


@dataclass(frozen=True)
class Outcome:
    """What a network makes of N images of one of C classes each."""

    probabilities: NDArray[np.float64]  # (N, C), calibrated, each row sums to 1
    energy: NDArray[np.float64]  # (N,), the energy score: the higher, the more familiar
    in_distribution: NDArray[np.bool_]  # (N,)

    def of(self, rows: slice) -> Outcome:
        """The outcome of the images in `rows` alone."""
        return Outcome(self.probabilities[rows], self.energy[rows], self.in_distribution[rows])


def join(outcomes: list[Outcome]) -> Outcome:
    """One outcome of the images of `outcomes`, of which there is at least one, in their order."""
    if len(outcomes) == 1:
        return outcomes[0]
    return Outcome(
        np.concatenate([one.probabilities for one in outcomes]),
        np.concatenate([one.energy for one in outcomes]),
        np.concatenate([one.in_distribution for one in outcomes]),
    )


# Images that a network is given at once: more are no faster, and all need room for activations.
BATCH = 16

# float32 (N, height, width, channels) in 0..1 -> float32 logits (N, C). Raises MemoryError.
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def open_network(model: bytes, image: tuple[int, int, int], classes: int) -> Network:
    """The network of the ONNX file `model`, tried on an empty image of (height, width, channels).

    To be called in the process that uses it: it has a session of its own. Raises ModelError.
    """
    # ONNX Runtime reports to Microsoft from its import on, unless this is said before. Nothing
    # that people send here, and nobody's use of it, is anybody else's business.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Here and not at the head of the file: where reporting is left on, the import starts a thread,
    # which a fork loses and the exit of the forked process then waits for without end.
    import onnxruntime

    unusable = _failures()
    options = onnxruntime.SessionOptions()
    # Workers are the parallelism: threads inside a session would fight over the same cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # It would keep the most memory that any request of this model's ever needed.
    options.enable_cpu_mem_arena = False
    try:
        session = onnxruntime.InferenceSession(
            model, sess_options=options, providers=["CPUExecutionProvider"]
        )
        session._model_bytes = None  # it would keep them for set_providers, which nobody calls
        name, outputs = session.get_inputs()[0].name, [session.get_outputs()[0].name]

        def network(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
            try:
                logits: NDArray[np.float32] = session.run(outputs, {name: pixels})[0]
            except unusable as error:
                if "bad_alloc" in str(error):  # C++'s word for it
                    raise MemoryError(f"ONNX Runtime: {error}") from error
                raise
            return logits

        answered = network(np.zeros((1, *image), np.float32))
    except unusable as error:
        raise ModelError(f"ONNX Runtime cannot run it: {error}") from error
    if answered.shape != (1, classes):
        raise ModelError(f"it answers {answered.shape} for one image of {classes} classes")
    if not np.isfinite(answered).all():
        raise ModelError("it answers NaN or infinity for an empty image")
    return_freed_memory()  # opening a session took several times its model besides
    return network


def _failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a file that it cannot run: they share no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.EPFail,
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
        state.RuntimeException,
        MemoryError,
        ValueError,
    )


@timed("infer")
def infer(network: Network, pixels: NDArray[np.float32], calibration: Calibration) -> Outcome:
    """Run the network on `pixels`, float32 (N, height, width, channels) in 0..1.

    What shows less than any training image, such as a blank one, is not in the distribution,
    whatever the network answers.
    """
    if len(pixels) <= BATCH:
        outcome = interpret(network(pixels), calibration)
    else:
        parts = [network(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        outcome = interpret(np.concatenate(parts), calibration)
    if len(pixels) == 1 and _shows_much(pixels[0], calibration.least_contrast):
        return outcome
    shows = contrasts(pixels) >= calibration.least_contrast
    return replace(outcome, in_distribution=outcome.in_distribution & shows)


def _shows_much(image: NDArray[np.float32], least: float) -> bool:
    """Whether the contrast of one image (height, width, channels) is far above `least`.

    In two calls, for most requests; `contrasts` is for what is near. Each channel's squares about
    its mean add up to at least half of those of the differences between the image's halves.
    """
    half = len(image) // 2
    apart = image[:half] - image[-half:]
    return float(np.vdot(apart, apart)) / 2 > 1.21 * least * least * image.size


def interpret(logits: NDArray[np.float32], calibration: Calibration) -> Outcome:
    """Probabilities and energy from `logits` (N, C), without overflow at any finite size."""
    if len(logits) == 1:  # most requests
        return _interpret_one(logits[0].tolist(), calibration)
    exact = logits.astype(np.float64)
    most = np.maximum.reduce(exact, axis=1, keepdims=True)
    exact -= most
    temperature, scale = calibration.temperature, calibration.energy_temperature
    weights = np.exp(exact / temperature)
    total = np.add.reduce(weights, axis=1, keepdims=True)
    partition = total
    if scale != temperature:
        partition = np.add.reduce(np.exp(exact / scale), axis=1, keepdims=True)
    energy = (scale * np.log(partition) + most)[:, 0]
    return Outcome(weights / total, energy, energy >= calibration.energy_threshold)


def _interpret_one(row: list[float], calibration: Calibration) -> Outcome:
    """The same of one image's logits: with so few numbers Python is faster than numpy."""
    most = max(row)
    temperature, scale = calibration.temperature, calibration.energy_temperature
    weights = [math.exp((logit - most) / temperature) for logit in row]
    total = sum(weights)
    partition = total
    if scale != temperature:
        partition = sum([math.exp((logit - most) / scale) for logit in row])
    energy = scale * math.log(partition) + most
    return Outcome(
        np.array([[weight / total for weight in weights]]),
        np.array([energy]),
        np.array([energy >= calibration.energy_threshold]),
    )


def most_probable(probabilities: list[float], count: int) -> list[int]:
    """The indices of the `count` most probable classes of one image, best first.

    Of equally probable classes the lower index comes first.
    """
    classes = range(len(probabilities))
    return sorted(classes, key=probabilities.__getitem__, reverse=True)[:count]
