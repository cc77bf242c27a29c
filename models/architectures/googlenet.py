"""GoogLeNet: inception modules of four branches (Szegedy et al., CVPR 2015, arXiv 1409.4842)."""

from typing import Any

from keras import layers

from models.architectures.blocks import convolution, logits, whitening
from models.architectures.registry import register

# The numbers of maps in each module: 1x1; 1x1 before 3x3, 3x3; 1x1 before 5x5, 5x5; pooled branch.
# A pool stands between two groups.
MODULES = (
    ((32, 48, 64, 12, 24, 24), (64, 64, 96, 16, 32, 32)),
    ((96, 96, 160, 24, 48, 48), (128, 128, 192, 32, 64, 64)),
    ((160, 144, 224, 32, 64, 64),),
)


@register
def googlenet(
    inputs: Any,
    classes: int,
    *,
    width: float = 1.0,
    dropout: float = 0.0,
    logit_scale: float = 0.25,
) -> Any:
    """Apply a whitening layer, a convolution, five inception modules and a global average.

    Each module joins a 1x1, a 3x3, a 5x5 and a pooled branch, all with batch normalisation. Two
    pools separate the modules into groups. `width` (above 0) multiplies the maps of every
    convolution, rounded to a multiple of 16. `dropout` (0 to below 1) is the share of activations
    that is dropped before the last layer. With the defaults and 10 classes:

        28x28x1   1,324,588 parameters   59,115,976 multiply-adds for one image
        32x32x3   1,328,170 parameters   81,913,632
    """
    x = convolution(whitening(inputs), _maps(64 * width), pool=True)
    for number, modules in enumerate(MODULES):
        if number:
            x = layers.MaxPooling2D()(x)
        for widths in modules:
            x = inception(x, *(_maps(maps * width) for maps in widths))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return logits(x, classes, logit_scale)


def inception(
    x: Any, one: int, before3: int, three: int, before5: int, five: int, pool: int
) -> Any:
    """Apply four branches to the maps `x` and join them to `one + three + five + pool` maps.

    `before3` and `before5` are the maps of the 1x1 convolutions before the 3x3 and the 5x5 one.
    Batch normalisation and ReLU follow the concatenation. The function is the same as with one of
    each in every branch, and a training step takes a seventh less time.
    """
    pooled = layers.MaxPooling2D(3, strides=1, padding="same")(x)
    joined = layers.Concatenate()(
        [
            layers.Conv2D(one, 1, use_bias=False)(x),
            layers.Conv2D(three, 3, padding="same", use_bias=False)(convolution(x, before3, 1)),
            layers.Conv2D(five, 5, padding="same", use_bias=False)(convolution(x, before5, 1)),
            layers.Conv2D(pool, 1, use_bias=False)(pooled),
        ]
    )
    return layers.ReLU()(layers.BatchNormalization()(joined))


def _maps(wanted: float) -> int:
    """Return the multiple of 16 nearest to `wanted`, because processors multiply in such groups."""
    return 16 * max(1, round(wanted / 16))
