"""Describe the backend and the hardware of a training, for cards and studies."""

import os
import platform
from pathlib import Path

import keras


def backend_name() -> str:
    """Return the backend, its device and the version of Keras.

    Backends and devices draw different random numbers from the same seed.
    """
    device = " on a GPU" if _accelerators() else ""
    return f"{keras.backend.backend()}{device}, Keras {keras.version()}"


def hardware() -> str:
    """Return the processor, its cores, the GPU if one is used, and the devices if several are."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
    distribution = keras.distribution.distribution()
    devices = [f"{distribution.device_mesh.devices.size} devices"] if distribution else []
    return ", ".join([processor, *_accelerators(), *devices])


def _accelerators() -> list[str]:
    """Return the names of the GPUs that PyTorch or JAX trains on."""
    if keras.backend.backend() == "torch":
        import torch

        return [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    if keras.backend.backend() == "jax":
        import jax

        return sorted({one.device_kind for one in jax.devices() if one.platform != "cpu"})
    return []
