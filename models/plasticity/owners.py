"""Which layers hold a variable. Keras' variables do not know, and optimizers get variables alone.

A variable's name and path are the user's choice, and its shape does not tell a convolution from an
attention head. So the living layers are looked through, once for an optimizer, by the identity of
what they hold. This works wherever the model came from: built, cloned or loaded. Only lists that
Keras itself keeps in a layer are read, and no code of a layer is run.
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
RECURRENT_CONVOLUTIONS = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)  # in a cell


def convolution_kernels(variables: Sequence[keras.Variable]) -> list[keras.Variable]:
    """Return those of `variables` that are kernels of convolution layers, in their order.

    Convolutions are Keras' own (depthwise, separable, transposed and recurrent ones too) and
    layers derived from them; what a derived one holds in further layers is theirs. A kernel that no
    living layer holds, as in a program that makes its variables itself, counts as a convolution's
    where it has three axes or more, unless it has three and its path names attention or einsum.
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
    """Whether a kernel of three axes or more, which no layer holds, is taken for a convolution's.

    The kernels of attention and of EinsumDense have three axes too, as those of Conv1D.
    """
    named = any(word in variable.path.lower() for word in ("attention", "einsum"))
    return len(variable.shape) > 3 or not named


def _held_by(layer: Any) -> set[int]:
    """Return the ids of a layer's own trainable variables: none where it was left half made."""
    found = _attributes(layer).get("_trainable_variables")
    return {id(variable) for variable in found} if isinstance(found, list) else set()


def _attributes(thing: Any) -> dict[str, Any]:
    """Return what is stored in an object, without asking the object."""
    try:
        stored: dict[str, Any] = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return stored


def _layers() -> Iterator[keras.layers.Layer]:
    """Yield every layer of this process."""
    for thing in _reachable() if gc.get_freeze_count() else gc.get_objects():
        # Not isinstance, which asks some lazy modules and proxies for what they stand for.
        if issubclass(type(thing), layers.Layer):
            yield thing


def _reachable() -> Iterable[Any]:
    """Return every object that modules, running functions and unfrozen objects lead to.

    After `gc.freeze()`, which servers call before they fork, `gc.get_objects` and
    `gc.get_referrers` leave out what was frozen; this finds it, in about ten times the time.
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
