"""What a training runs on, in words: cards and studies hold it."""

import os
import platform
from pathlib import Path

import keras


def backend_name() -> str:
    """The backend and the device it draws its random numbers on: another one draws others."""
    device = " on a GPU" if _accelerators() else ""
    return f"{keras.backend.backend()}{device}, Keras {keras.version()}"


def hardware() -> str:
    """The processor and its cores, as the operating system names them, and a GPU that is used."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
    return ", ".join([processor, *_accelerators()])


def _accelerators() -> list[str]:
    """The GPUs that PyTorch or JAX would train on."""
    if keras.backend.backend() == "torch":
        import torch

        return [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    if keras.backend.backend() == "jax":
        import jax

        return sorted({one.device_kind for one in jax.devices() if one.platform != "cpu"})
    return []
