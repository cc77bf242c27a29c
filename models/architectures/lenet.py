"""LeNet: two convolutions with pooling, then dense layers (LeCun et al., Proc. IEEE 86, 1998)."""

from typing import Any

from keras import layers

from models.architectures.blocks import convolution, logits
from models.architectures.registry import register


@register
def lenet(
    inputs: Any,
    classes: int,
    *,
    kernels: tuple[int, ...] = (32, 48),
    dense: tuple[int, ...] = (120, 84),
    dropout: float = 0.0,
    batch_norm: bool = True,
) -> Any:
    """Apply LeNet-5 with wider convolutions, batch normalisation, ReLU and max-pooling.

    As in LeNet-5, the first convolution pads the image and the others do not.

    `kernels` are the numbers of maps of the 5x5 convolutions. `dense` are the widths of the hidden
    layers. `dropout` (0 to below 1) is the share of activations that is dropped before each dense
    layer. `batch_norm=False` suits tasks that follow one another: the moving averages would follow
    the last task. With the defaults and 10 classes:

        28x28x1   194,654 parameters   4,622,120 multiply-adds for one image
        32x32x3   259,614 parameters   8,205,480
    """
    x, padding = inputs, "same"
    for width in kernels:
        x = layers.MaxPooling2D()(convolution(x, width, 5, batch_norm=batch_norm, padding=padding))
        padding = "valid"
    x = layers.Flatten()(x)
    for width in dense:
        x = layers.Dropout(dropout)(x)
        x = layers.Dense(width, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    return logits(x, classes)
