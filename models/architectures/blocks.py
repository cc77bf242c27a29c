"""What several architectures are built from."""

from typing import Any

from keras import layers

WHITENING = "whitening"  # the layer's name


def convolution(
    x: Any,
    width: int,
    size: int = 3,
    pool: bool = False,
    batch_norm: bool = True,
    padding: str = "same",
) -> Any:
    """A `size` x `size` convolution to `width` maps, batch normalisation and ReLU.

    Without `batch_norm` the convolution has a bias instead.

    With `pool`, 2x2 max-pooling stands right behind the convolution: the same maps for a quarter
    of the normalisation's work.
    """
    x = layers.Conv2D(width, size, padding=padding, use_bias=not batch_norm)(x)
    if pool:
        x = layers.MaxPooling2D()(x)
    if batch_norm:
        x = layers.BatchNormalization()(x)
    return layers.ReLU()(x)


def locally_connected(
    x: Any, filters: int, size: int, strides: int = 1, use_bias: bool = True, **settings: Any
) -> Any:
    """A `size` x `size` convolution without padding that has a kernel of its own at each place.

    Keras 2's LocallyConnected2D, which Keras 3 lacks, of plain Keras layers, so that a saved
    network needs nothing else: shifted copies of the maps, joined, are the patches, and one einsum
    multiplies them. `x` (N, height, width, channels) becomes (N, y, x, filters); the kernel is
    (y, x, size * size * channels, filters) with a patch's rows first, then columns, then channels,
    and the bias (y, x, filters). `settings` are EinsumDense's, such as `kernel_initializer`.
    """
    patches = []
    for top in range(size):
        for left in range(size):
            bottom, right = size - 1 - top, size - 1 - left
            shifted = layers.Cropping2D(((top, bottom), (left, right)))(x)
            if strides > 1:
                shifted = layers.MaxPooling2D(1, strides=strides)(shifted)  # every strides-th
            patches.append(shifted)
    joined = layers.Concatenate()(patches) if size > 1 else patches[0]
    _, height, width, _ = joined.shape
    return layers.EinsumDense(
        "nyxp,yxpf->nyxf",
        output_shape=(height, width, filters),
        bias_axes="yxf" if use_bias else None,
        **settings,
    )(joined)


def to_about_32(x: Any, width: int) -> Any:
    """Maps whose shorter side is below 56 pixels, halved as often as that takes.

    Each time by a 3x3 convolution to `width` maps and a 2x2 pool, so that a network for pictures of
    32 pixels takes larger ones. Smaller ones pass as they are.
    """
    while min(x.shape[1:3]) >= 56:
        x = convolution(x, width, pool=True)
    return x


def whitening(x: Any) -> Any:
    """A fixed convolution to decorrelated patches of the image, each with its negative, and ReLU.

    Patches are 2x2 for colour (24 maps) and 3x3 for grey (18), without padding. Training sets the
    kernel from its images before the first step: see models/architectures/whitening.py.
    """
    size = 2 if x.shape[-1] > 1 else 3
    maps = 2 * size * size * x.shape[-1]
    x = layers.Conv2D(maps, size, use_bias=False, trainable=False, name=WHITENING)(x)
    return layers.ReLU()(x)


def logits(x: Any, classes: int, scale: float = 1.0) -> Any:
    """A dense layer to one float32 logit for each class, multiplied by `scale`.

    A scale below 1 keeps the first steps' softmax soft at the learning rates that the
    convolutions stand.
    """
    if scale == 1:
        return layers.Dense(classes, dtype="float32", name="logits")(x)
    x = layers.Dense(classes, dtype="float32", name="unscaled")(x)
    return layers.Rescaling(scale, dtype="float32", name="logits")(x)
