"""The network of an ONNX file, opened and tried: ONNX Runtime stands behind this one function."""

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from app.memory import return_freed_memory


class ModelError(Exception):
    """A file that ONNX Runtime cannot run, or whose inputs or outputs are not as they should be."""


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
