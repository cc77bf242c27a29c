"""Network architectures, a file each. Importing this package registers all of them."""

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
    **knobs: Any,
) -> keras.Model:
    """The network `architecture` for images of `input_shape` (height, width, channels).

    `mean` and `std` are the data set's, per channel, of values in 0..1; `knobs` are the builder's
    own. Raises ValueError for an architecture that is not registered or a knob that it has not.
    """
    check_knobs(architecture, knobs)
    return ARCHITECTURES[architecture](input_shape, classes, mean=mean, std=std, **knobs)


def check_knobs(architecture: str, knobs: Iterable[str]) -> None:
    """Raise ValueError, with those there are, for an unknown architecture or knob."""
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ValueError(f"no architecture is called {architecture!r}; there are: {known}")
    parameters = inspect.signature(ARCHITECTURES[architecture]).parameters
    own = [name for name in parameters if name not in ("input_shape", "classes", "mean", "std")]
    if unknown := [knob for knob in knobs if knob not in own]:
        raise ValueError(
            f"{architecture} has no knob {', '.join(unknown)}; it has: {', '.join(own) or 'none'}"
        )
