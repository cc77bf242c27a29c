"""AlexNet in its form for 32-pixel images (Krizhevsky et al., NeurIPS 2012)."""

import keras
from keras import layers

from models.architectures.blocks import convolution, logits, to_about_32
from models.architectures.registry import normalised_input, register


@register
def alexnet(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    kernels: tuple[int, int, int, int, int] = (48, 96, 160, 160, 128),
    dropout: float = 0.0,
) -> keras.Model:
    """Five convolutions, the first 5x5, with overlapping 3x3 pools behind the 1st, 2nd and 5th.

    Batch normalisation stands where AlexNet normalised local responses, and a global average where
    it had dense layers of 59 million weights; `dropout` is the share dropped before the last layer.
    With the defaults and 10 classes:

        28x28x1   599,290 parameters   36,165,632 multiply-adds for one image
        32x32x3   601,690 parameters   49,693,952
        64x64x3   627,634 parameters    78,152,960
        128x128x3 632,914 parameters   107,349,248

    Pictures from 56 pixels on are halved first, to about 32.
    """
    inputs, x = normalised_input(input_shape, mean, std)
    x = to_about_32(x, kernels[0] // 2)
    for number, width in enumerate(kernels, start=1):
        x = convolution(x, width, size=5 if number == 1 else 3)
        if number in (1, 2, 5):
            x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, logits(x, classes), name="alexnet")
