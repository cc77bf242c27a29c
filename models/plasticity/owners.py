"""Find the layers that own a variable.

An optimizer gets variables alone, and Keras variables do not know their layer. Their name and path
are the user's choice, and their shape does not distinguish a convolution from an attention head. So
each optimizer searches the existing layers once and compares the variables that they hold by
identity. This works for models that were built, cloned or loaded. It reads only lists that Keras
keeps in a layer, and runs no code of a layer.
"""

import gc
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import Any

import keras
from keras import layers

CONVOLUTIONS = (
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
)
# Their kernels belong to a cell inside the layer.
RECURRENT_CONVOLUTIONS = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)


def convolution_kernels(variables: Sequence[keras.Variable]) -> list[keras.Variable]:
    """Return those of `variables` that are kernels of convolution layers, in their order.

    Convolution layers are those of Keras (also depthwise, separable, transposed and recurrent ones)
    and their subclasses. Variables in further layers inside a subclass belong to those layers.

    A program may also create variables without a layer. Such a kernel counts as a convolution's if
    it has more than three axes, or has three and its path does not name attention or einsum.
    """
    candidates = [v for v in variables if v.name.endswith("kernel") and len(v.shape) >= 3]
    if not candidates:
        return []
    held, convolving = set(), set()
    for layer in _layers():
        its_own = _held_by(layer)
        held |= its_own
        if isinstance(layer, CONVOLUTIONS):
            convolving |= its_own
        elif isinstance(layer, RECURRENT_CONVOLUTIONS):
            stored = _attributes(layer)
            in_torch = stored.get("_modules", {})  # where PyTorch keeps layers
            convolving |= _held_by(stored.get("cell", in_torch.get("cell")))
    return [v for v in candidates if id(v) in convolving or (id(v) not in held and _looks_so(v))]


def _looks_so(variable: keras.Variable) -> bool:
    """Return whether a kernel of three or more axes without a layer counts as a convolution's.

    Kernels of attention and of EinsumDense have three axes, like those of Conv1D.
    """
    named = any(word in variable.path.lower() for word in ("attention", "einsum"))
    return len(variable.shape) > 3 or not named


def _held_by(layer: Any) -> set[int]:
    """Return the ids of a layer's own trainable variables, or none if it is not complete."""
    found = _attributes(layer).get("_trainable_variables")
    return {id(variable) for variable in found} if isinstance(found, list) else set()


def _attributes(thing: Any) -> dict[str, Any]:
    """Return the attributes of an object without running its code."""
    try:
        stored: dict[str, Any] = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return stored


def _layers() -> Iterator[keras.layers.Layer]:
    """Yield every layer in this process."""
    for thing in _reachable() if gc.get_freeze_count() else gc.get_objects():
        # Not isinstance, which would make lazy modules and proxies load what they stand for.
        if issubclass(type(thing), layers.Layer):
            yield thing


def _reachable() -> Iterable[Any]:
    """Return every object that modules, running functions and unfrozen objects refer to.

    After `gc.freeze()`, which servers call before a fork, `gc.get_objects` and `gc.get_referrers`
    omit frozen objects. This function finds them and takes about ten times as long.
    """
    found: dict[int, Any] = {}
    edge = [*gc.get_objects(), *(_attributes(module) for module in list(sys.modules.values()))]
    for innermost in sys._current_frames().values():
        frame: FrameType | None = innermost
        while frame is not None:
            edge.append(frame.f_locals)
            frame = frame.f_back
    while edge:
        new = {id(thing): thing for thing in edge if id(thing) not in found}
        found |= new
        edge = gc.get_referents(*new.values())
    return found.values()
