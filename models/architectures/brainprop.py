"""The networks of the BrainProp paper (Pozzi, Bohte and Roelfsema, NeurIPS 2020).

No layer has a bias. In the convolutional part, batch normalisation follows the ReLU.

Initial weights: kernels start at N(0, 0.005), those of `dense` at N(0, 0.01). With `he=True`,
hidden kernels start as in He et al. (arXiv 1502.01852). The hidden layer of `deep` is an exception.
Nothing normalises its output, and the squared error of large outputs is so steep that momentum
silences its units within a few hundred steps.

Dropout: the option `dropout` multiplies the paper's rates.

The paper's numbers of parameters leave out the moving averages of batch normalisation, which are
not trained.
"""

from typing import Any

import keras
from keras import layers

from models.architectures.blocks import locally_connected
from models.architectures.registry import register

STD = 0.005  # standard deviation of the initial kernels


@register
def dense(
    inputs: Any,
    classes: int,
    *,
    widths: tuple[int, ...] = (1500, 1000, 500),
    he: bool = False,
) -> Any:
    """Apply dense layers of the given `widths` with ReLU and without dropout.

    With the defaults and 10 classes:

        28x28x1   3,181,000 parameters   3,181,000 multiply-adds for one image
        32x32x3   6,613,000 parameters   6,613,000
    """
    x = layers.Flatten()(inputs)
    for width in widths:
        x = layers.Dense(width, activation="relu", **_kernel(he, 0.01))(x)
    return _rewards(x, classes, 0.01)


@register
def conv(
    inputs: Any,
    classes: int,
    *,
    maps: int = 32,
    hidden: int = 500,
    dropout: float = 1.0,
    he: bool = False,
) -> Any:
    """Apply two 3x3 convolutions to `maps` maps, the second with stride 2, and a hidden layer.

    `hidden` is the number of units of the hidden layer.

    With the defaults and 10 classes:

        28x28x1   3,150,760 parameters   5,173,128 multiply-adds for one image
        32x32x3   4,111,336 parameters   7,345,032
    """
    x = inputs
    for strides in (1, 2):
        x = layers.Conv2D(maps, 3, strides=strides, padding="same", **_kernel(he))(x)
        x = layers.BatchNormalization()(layers.ReLU()(x))
    x = _hidden(layers.Dropout(0.3 * dropout)(x), hidden, dropout, he)
    return _rewards(x, classes)


@register
def loccon(
    inputs: Any,
    classes: int,
    *,
    maps: int = 32,
    hidden: int = 500,
    dropout: float = 1.0,
    he: bool = False,
) -> Any:
    """Apply the layers of `conv` without weight sharing and without padding.

    The convolutions become locally connected layers: like neurons, no two places share weights.

    With the defaults and 10 classes:

        28x28x1   3,831,048 parameters   3,830,792 multiply-adds for one image
        32x32x3   5,725,192 parameters   5,724,936
    """
    x = inputs
    for strides in (1, 2):
        x = locally_connected(x, maps, 3, strides, **_kernel(he))
        x = layers.BatchNormalization()(layers.ReLU()(x))
    x = _hidden(layers.Dropout(0.3 * dropout)(x), hidden, dropout, he)
    return _rewards(x, classes)


@register
def deep(
    inputs: Any,
    classes: int,
    *,
    blocks: tuple[tuple[int, int, float], ...] = ((2, 64, 0.3), (2, 128, 0.3), (3, 128, 0.8)),
    hidden: int = 500,
    dropout: float = 1.0,
    he: bool = False,
    l2: float = 5e-4,
) -> Any:
    """Apply blocks of 3x3 convolutions, a 2x2 pool after each, and a layer of `hidden` units.

    Each block is (convolutions, maps, dropout rate after the pool). `l2` is the penalty on every
    kernel. With the defaults and 10 classes:

        28x28x1   1,285,064 parameters    94,962,056 multiply-adds for one image
        32x32x3   1,734,216 parameters   125,481,864
    """
    x = inputs
    for convolutions, maps, rate in blocks:
        for _ in range(convolutions):
            x = layers.Conv2D(maps, 3, padding="same", **_kernel(he, l2=l2))(x)
            x = layers.BatchNormalization()(layers.ReLU()(x))
        x = layers.Dropout(rate * dropout)(layers.MaxPooling2D()(x))
    x = _hidden(x, hidden, dropout, False, l2)
    return _rewards(x, classes, l2=l2)


def _hidden(x: Any, width: int, dropout: float, he: bool, l2: float = 0.0) -> Any:
    """Flatten the maps and apply a dense layer of `width` units with ReLU, then dropout."""
    x = layers.Dense(width, activation="relu", **_kernel(he, l2=l2))(layers.Flatten()(x))
    return layers.Dropout(0.3 * dropout)(x)


def _rewards(x: Any, classes: int, std: float = STD, l2: float = 0.0) -> Any:
    """Return the linear float32 output q (N, classes): reward estimates, or logits for backprop."""
    return layers.Dense(classes, dtype="float32", name="q", **_kernel(False, std, l2))(x)


def _kernel(he: bool, std: float = STD, l2: float = 0.0) -> dict[str, Any]:
    """Return new arguments for one layer: an initializer used twice would repeat its values."""
    return {
        "use_bias": False,
        "kernel_initializer": (
            keras.initializers.HeNormal() if he else keras.initializers.RandomNormal(stddev=std)
        ),
        "kernel_regularizer": keras.regularizers.L2(l2) if l2 else None,
    }
