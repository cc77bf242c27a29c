"""Which layers hold a variable. Keras' variables do not know, and optimizers get variables alone.

A variable's name and path are the user's choice, and its shape does not tell a convolution from an
attention head. So the living layers are looked through, once for an optimizer (0.1 s), by the
identity of what they hold. This works wherever the model came from: built, cloned or loaded.
"""

import gc
from collections.abc import Iterator, Sequence

import keras
from keras import layers

CONVOLUTIONS = (
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
    *(layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D),
)


def convolution_kernels(variables: Sequence[keras.Variable]) -> list[keras.Variable]:
    """Return those of `variables` that are kernels of convolution layers, in their order.

    Convolutions are Keras' own (depthwise, separable, transposed and recurrent ones too) and
    layers derived from them. A kernel that no living layer holds, as in a program that makes its
    variables itself, counts as a convolution's where it has three axes or more.
    """
    candidates = [v for v in variables if v.name.endswith("kernel") and len(v.shape) >= 3]
    if not candidates:
        return []
    held, convolving = set(), set()
    for layer in _built_layers():
        its_own = {id(variable) for variable in layer.variables}
        held |= its_own
        if isinstance(layer, CONVOLUTIONS):
            convolving |= its_own
    return [v for v in candidates if id(v) in convolving or id(v) not in held]


def _built_layers() -> Iterator[keras.layers.Layer]:
    """Yield every layer of this process that has its variables."""
    for thing in gc.get_objects():
        # Not isinstance, which asks some lazy modules and proxies for what they stand for.
        if issubclass(type(thing), layers.Layer) and getattr(thing, "built", False):
            yield thing
