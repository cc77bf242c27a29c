"""AlexNet, adapted to 32-pixel images (Krizhevsky et al., NeurIPS 2012)."""

from typing import Any

from keras import layers

from models.architectures.blocks import convolution, logits
from models.architectures.registry import register


@register
def alexnet(
    inputs: Any,
    classes: int,
    *,
    kernels: tuple[int, int, int, int, int] = (48, 96, 160, 160, 128),
    dropout: float = 0.0,
) -> Any:
    """Apply five convolutions, the first one 5x5 and the others 3x3, then a global average.

    `kernels` are the numbers of maps. Overlapping 3x3 pools follow convolutions 1, 2 and 5. Batch
    normalisation replaces AlexNet's local response normalisation. The global average replaces its
    dense layers of 59 million weights. `dropout` (0 to below 1) is the share of activations that
    is dropped before the last layer. With the defaults and 10 classes:

        28x28x1   599,290 parameters   36,165,632 multiply-adds for one image
        32x32x3   601,690 parameters   49,693,952
    """
    x = inputs
    for number, width in enumerate(kernels, start=1):
        x = convolution(x, width, size=5 if number == 1 else 3)
        if number in (1, 2, 5):
            x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return logits(x, classes)
