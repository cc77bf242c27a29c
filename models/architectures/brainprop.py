"""The networks of the BrainProp paper (Pozzi, Bohte and Roelfsema, NeurIPS 2020).

None has a bias, and batch normalisation stands behind the ReLU of the convolutions. Kernels start
at N(0, 0.005), those of `dense` at N(0, 0.01); with `he`, hidden ones start as He et al. (arXiv
1502.01852) have it, but for the hidden layer of `deep`: nothing normalises what it answers, and the
squared error on large answers is so steep that momentum kills its units within a few hundred steps.
`dropout` multiplies the paper's rates of dropout. The paper's counts of parameters leave out the
moving averages of batch normalisation, which are not trained.
"""

from typing import Any

import keras
from keras import layers

from models.architectures.blocks import locally_connected
from models.architectures.registry import normalised_input, register

STD = 0.005  # of the kernels' first values


@register
def dense(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    widths: tuple[int, ...] = (1500, 1000, 500),
    he: bool = False,
) -> keras.Model:
    """Dense layers of the given `widths` with ReLU, without dropout.

    With the defaults and 10 classes:

        28x28x1   3,181,000 parameters   3,181,000 multiply-adds for one image
        32x32x3   6,613,000 parameters   6,613,000
    """
    inputs, x = normalised_input(input_shape, mean, std)
    x = layers.Flatten()(x)
    for width in widths:
        x = layers.Dense(width, activation="relu", **_kernel(he, 0.01))(x)
    return keras.Model(inputs, _rewards(x, classes, 0.01), name="dense")


@register
def conv(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    maps: int = 32,
    hidden: int = 500,
    dropout: float = 1.0,
    he: bool = False,
) -> keras.Model:
    """Two 3x3 convolutions to `maps` maps, the second of stride 2, and a layer of `hidden` units.

    With the defaults and 10 classes:

        28x28x1   3,150,760 parameters   5,173,128 multiply-adds for one image
        32x32x3   4,111,336 parameters   7,345,032
    """
    inputs, x = normalised_input(input_shape, mean, std)
    for strides in (1, 2):
        x = layers.Conv2D(maps, 3, strides=strides, padding="same", **_kernel(he))(x)
        x = layers.BatchNormalization()(layers.ReLU()(x))
    x = _hidden(layers.Dropout(0.3 * dropout)(x), hidden, dropout, he)
    return keras.Model(inputs, _rewards(x, classes), name="conv")


@register
def loccon(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    maps: int = 32,
    hidden: int = 500,
    dropout: float = 1.0,
    he: bool = False,
) -> keras.Model:
    """`conv` without weight sharing, as neurons have it: locally connected, without padding.

    With the defaults and 10 classes:

        28x28x1   3,831,048 parameters   3,830,792 multiply-adds for one image
        32x32x3   5,725,192 parameters   5,724,936
    """
    inputs, x = normalised_input(input_shape, mean, std)
    for strides in (1, 2):
        x = locally_connected(x, maps, 3, strides, **_kernel(he))
        x = layers.BatchNormalization()(layers.ReLU()(x))
    x = _hidden(layers.Dropout(0.3 * dropout)(x), hidden, dropout, he)
    return keras.Model(inputs, _rewards(x, classes), name="loccon")


@register
def deep(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    blocks: tuple[tuple[int, int, float], ...] = ((2, 64, 0.3), (2, 128, 0.3), (3, 128, 0.8)),
    hidden: int = 500,
    dropout: float = 1.0,
    he: bool = False,
    l2: float = 5e-4,
) -> keras.Model:
    """Blocks of 3x3 convolutions, each followed by a 2x2 pool, and a layer of `hidden` units.

    Each block is (convolutions, maps, rate of dropout behind the pool); `l2` is the penalty on
    every kernel. With the defaults and 10 classes:

        28x28x1   1,285,064 parameters    94,962,056 multiply-adds for one image
        32x32x3   1,734,216 parameters   125,481,864
    """
    inputs, x = normalised_input(input_shape, mean, std)
    for convolutions, maps, rate in blocks:
        for _ in range(convolutions):
            x = layers.Conv2D(maps, 3, padding="same", **_kernel(he, l2=l2))(x)
            x = layers.BatchNormalization()(layers.ReLU()(x))
        x = layers.Dropout(rate * dropout)(layers.MaxPooling2D()(x))
    x = _hidden(x, hidden, dropout, False, l2)
    return keras.Model(inputs, _rewards(x, classes, l2=l2), name="deep")


def _hidden(x: Any, width: int, dropout: float, he: bool, l2: float = 0.0) -> Any:
    """The maps flattened, a dense layer of `width` units with ReLU, and dropout."""
    x = layers.Dense(width, activation="relu", **_kernel(he, l2=l2))(layers.Flatten()(x))
    return layers.Dropout(0.3 * dropout)(x)


def _rewards(x: Any, classes: int, std: float = STD, l2: float = 0.0) -> Any:
    """The output q: one float32 estimate of the reward for each class, or logit, linear."""
    return layers.Dense(classes, dtype="float32", name="q", **_kernel(False, std, l2))(x)


def _kernel(he: bool, std: float = STD, l2: float = 0.0) -> dict[str, Any]:
    """A layer's arguments. Made for each one: an initializer used twice gives the same values."""
    return {
        "use_bias": False,
        "kernel_initializer": (
            keras.initializers.HeNormal() if he else keras.initializers.RandomNormal(stddev=std)
        ),
        "kernel_regularizer": keras.regularizers.L2(l2) if l2 else None,
    }
