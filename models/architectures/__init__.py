"""Network architectures, one file each. Importing this package registers all of them."""

import inspect
from collections.abc import Iterable
from typing import Any

import keras

from models.architectures import alexnet as alexnet
from models.architectures import brainprop as brainprop
from models.architectures import googlenet as googlenet
from models.architectures import lenet as lenet
from models.architectures import vgg as vgg
from models.architectures.registry import ARCHITECTURES as ARCHITECTURES


def build(
    architecture: str,
    input_shape: tuple[int, int, int],
    classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    **options: Any,
) -> keras.Model:
    """Return an untrained network with the given `architecture`.

    `input_shape` is (height, width, channels). `mean` and `std` describe the data set: one value
    for each channel, for pixels in 0..1. `options` belong to the architecture. The network takes
    float32 images (N, height, width, channels) in 0..1 and returns float32 logits (N, classes).

    Raises ValueError for an unknown architecture or option.
    """
    check_options(architecture, options)
    return ARCHITECTURES[architecture](input_shape, classes, mean=mean, std=std, **options)


def check_options(architecture: str, options: Iterable[str]) -> None:
    """Raise ValueError for an unknown architecture or option; the message lists the known ones."""
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ValueError(f"no architecture is called {architecture!r}; there are: {known}")
    # The first two parameters of a builder are `inputs` and `classes`.
    _, _, *own = inspect.signature(ARCHITECTURES[architecture]).parameters
    if unknown := [option for option in options if option not in own]:
        raise ValueError(
            f"{architecture} has no option {', '.join(unknown)}; it has: {', '.join(own) or 'none'}"
        )
