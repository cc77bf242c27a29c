"""Groups of layers that several architectures use."""

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
    """Apply a `size` x `size` convolution to `width` maps, batch normalisation and ReLU.

    Without `batch_norm`, the convolution has a bias instead. With `pool`, 2x2 max-pooling directly
    follows the convolution, so that the normalisation has a quarter of the work.
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
    """Apply a `size` x `size` convolution that has its own kernel at each place, without padding.

    This replaces LocallyConnected2D of Keras 2, which Keras 3 does not have. It consists of
    standard Keras layers, so that a saved network loads without this code. Shifted copies of the
    maps are joined to patches, and one einsum multiplies them with the kernels.

    `x` (N, height, width, channels) becomes (N, y, x, filters). The kernel is (y, x, size * size *
    channels, filters); within a patch, rows come first, then columns, then channels. The bias is
    (y, x, filters). `settings` are arguments of EinsumDense, such as `kernel_initializer`.
    """
    patches = []
    for top in range(size):
        for left in range(size):
            bottom, right = size - 1 - top, size - 1 - left
            shifted = layers.Cropping2D(((top, bottom), (left, right)))(x)
            if strides > 1:
                shifted = layers.MaxPooling2D(1, strides=strides)(shifted)  # keeps one of `strides`
            patches.append(shifted)
    joined = layers.Concatenate()(patches) if size > 1 else patches[0]
    _, height, width, _ = joined.shape
    return layers.EinsumDense(
        "nyxp,yxpf->nyxf",
        output_shape=(height, width, filters),
        bias_axes="yxf" if use_bias else None,
        **settings,
    )(joined)


def whitening(x: Any) -> Any:
    """Apply a fixed convolution that decorrelates the pixels of a patch, and ReLU.

    Each filter comes with its negative, so that ReLU loses nothing. Patches are 2x2 for colour (24
    maps) and 3x3 for grey (18 maps), without padding. The kernel is set from training images before
    the first step: see models/architectures/whitening.py.
    """
    size = 2 if x.shape[-1] > 1 else 3
    maps = 2 * size * size * x.shape[-1]
    x = layers.Conv2D(maps, size, use_bias=False, trainable=False, name=WHITENING)(x)
    return layers.ReLU()(x)


def logits(x: Any, classes: int, scale: float = 1.0) -> Any:
    """Apply a dense layer with one float32 logit for each class, multiplied by `scale`.

    A scale below 1 keeps the softmax of the first steps soft. This allows the high learning rates
    that suit the convolutions.
    """
    if scale == 1:
        return layers.Dense(classes, dtype="float32", name="logits")(x)
    x = layers.Dense(classes, dtype="float32", name="unscaled")(x)
    return layers.Rescaling(scale, dtype="float32", name="logits")(x)
