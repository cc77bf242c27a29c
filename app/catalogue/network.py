"""The network of an ONNX file, opened and tried with ONNX Runtime, which only this module uses."""

import os
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from app.memory import return_freed_memory


class ModelError(Exception):
    """A file that ONNX Runtime cannot run, or whose inputs or outputs have an unexpected form."""


# The most images in one run of a network. Larger batches are no faster and need more memory.
BATCH = 16

# float32 (N, height, width, channels) in 0..1 -> float32 logits (N, C). Raises MemoryError.
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def _nothing() -> None:
    pass


# Called after each run of a network. A worker sets it, so that its master does not take it for
# hanging while it answers a request with many images.
after_run: Callable[[], None] = _nothing


def open_network(
    model: bytes, image: tuple[int, int, int], classes: int, providers: Sequence[str]
) -> Network:
    """Return the network of the ONNX file `model`, after a trial run on an empty image.

    `image` is (height, width, channels). `providers` are ONNX Runtime's, in the order of
    preference. The network's session belongs to this process, so call this in the process that uses
    it. Raises ModelError.
    """
    # ONNX Runtime sends usage data to Microsoft unless this is set before the import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Not at the head of the file: if usage data is sent, the import starts a thread. A fork loses
    # the thread, and the forked process would wait for it forever at its exit.
    import onnxruntime

    unusable = _failures()
    options = onnxruntime.SessionOptions()
    # One thread: the workers already use every core.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The arena would keep the most memory that any request of this model ever needed.
    options.enable_cpu_mem_arena = False
    try:
        session = onnxruntime.InferenceSession(
            model, sess_options=options, providers=list(providers)
        )
        # ONNX Runtime goes on without a provider whose libraries it cannot load.
        if missing := [name for name in providers if name not in session.get_providers()]:
            raise ModelError(f"ONNX Runtime cannot use {', '.join(missing)}; its own lines say why")
        session._model_bytes = None  # kept only for set_providers, which is not called
        name, outputs = session.get_inputs()[0].name, [session.get_outputs()[0].name]
        run = session._sess.run  # session.run would check the names with each request

        def network(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
            try:
                logits: NDArray[np.float32] = run(outputs, {name: pixels}, None)[0]
            except unusable as error:
                if "bad_alloc" in str(error):  # C++'s exception for too little memory
                    raise MemoryError(f"ONNX Runtime: {error}") from error
                raise
            after_run()
            return logits

        answered = network(np.zeros((1, *image), np.float32))
    except unusable as error:
        raise ModelError(f"ONNX Runtime cannot run it: {error}") from error
    if answered.shape != (1, classes):
        raise ModelError(f"it answers {answered.shape} for one image of {classes} classes")
    if not np.isfinite(answered).all():
        raise ModelError("it answers NaN or infinity for an empty image")
    return_freed_memory()  # opening a session takes several times the memory of its model
    return network


# What has each provider, in place of the package `onnxruntime`, which has CPUExecutionProvider.
_PACKAGES = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "NvTensorRTRTXExecutionProvider": "onnxruntime-trt-rtx",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
    "QNNExecutionProvider": "onnxruntime-qnn",
    "MIGraphXExecutionProvider": "onnxruntime-migraphx",
    "ROCMExecutionProvider": "onnxruntime-rocm",
}


def check_providers(providers: Sequence[str]) -> None:
    """Raise ModelError unless the installed ONNX Runtime has all `providers`."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    there = onnxruntime.get_available_providers()
    for name in (name for name in providers if name not in there):
        package = _PACKAGES.get(name)
        advice = (
            f"Install {package} in its place: pip uninstall onnxruntime && pip install {package}"
            if package
            else "Install a build of ONNX Runtime that has it (onnxruntime.ai lists them)"
        )
        raise ModelError(
            f"this ONNX Runtime has no {name}; it has: {', '.join(there)}. {advice}, or leave "
            f"{name} out."
        )


def _failures() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises for a bad file; the types have no common base class."""
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
