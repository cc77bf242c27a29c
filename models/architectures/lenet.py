"""LeNet: two convolutions with pooling, then dense layers (LeCun et al., Proc. IEEE 86, 1998)."""

import keras
from keras import layers

from models.architectures.blocks import convolution, logits
from models.architectures.registry import normalised_input, register


@register
def lenet(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    kernels: tuple[int, ...] = (32, 48),
    dense: tuple[int, ...] = (120, 84),
    dropout: float = 0.0,
    batch_norm: bool = True,
) -> keras.Model:
    """LeNet-5's shape with wider convolutions, batch normalisation, ReLU and max-pooling.

    As there, the first convolution sees a margin around the image and the others see none.

    `kernels` are the 5x5 convolutions' widths, `dense` the hidden layers' widths, and `dropout`
    the share of activations dropped before each dense layer; `batch_norm` may be left out, as where
    tasks follow one another. With the defaults and 10 classes:

        28x28x1   194,654 parameters   4,622,120 multiply-adds for one image
        32x32x3   259,614 parameters   8,205,480
    """
    inputs, x = normalised_input(input_shape, mean, std)
    padding = "same"
    for width in kernels:
        x = layers.MaxPooling2D()(convolution(x, width, 5, batch_norm=batch_norm, padding=padding))
        padding = "valid"
    x = layers.Flatten()(x)
    for width in dense:
        x = layers.Dropout(dropout)(x)
        x = layers.Dense(width, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, logits(x, classes), name="lenet")
