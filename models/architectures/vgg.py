"""VGG: blocks of two 3x3 convolutions and a pool (Simonyan and Zisserman, arXiv 1409.1556)."""

from typing import Any

import keras
from keras import layers

from models.architectures.blocks import logits, whitening
from models.architectures.registry import register


@register
def vgg(
    inputs: Any,
    classes: int,
    *,
    blocks: int = 3,
    width: int = 64,
    whiten: bool = True,
    early_pool: bool = True,
    dense: int = 0,
    batch_norm: bool = True,
    dropout: float = 0.0,
    l2: float = 0.0,
    logit_scale: float = 0.25,
) -> Any:
    """Apply a whitening layer, `blocks` of two 3x3 convolutions, a global maximum, a dense layer.

    The first block has `width` maps, and each further block has twice as many. With `early_pool`,
    the pool of a block stands between its convolutions, so that wider maps cost the same (Jordan,
    arXiv 2404.00498). With `dense` above 0, the maps are flattened and a hidden layer of that width
    replaces the global maximum. `dropout` (0 to below 1) is the share of activations that is
    dropped after each block, and `l2` (0 or more) the penalty on the kernels. The networks of
    docs/vgg.md are `width=32, whiten=False, early_pool=False, dense=128, logit_scale=1`. With the
    defaults and 10 classes:

        28x28x1   1,159,468 parameters   47,044,552 multiply-adds for one image
        32x32x3   1,163,050 parameters   65,431,840

    Raises ValueError unless `blocks` is 1 or more.
    """
    if blocks < 1:
        raise ValueError(f"blocks: expected 1 or more, found {blocks!r}")
    penalty = keras.regularizers.L2(l2) if l2 else None
    x = whitening(inputs) if whiten else inputs
    for block in range(blocks):
        for pool in (early_pool, False):
            x = layers.Conv2D(
                width * 2**block,
                3,
                padding="same",
                use_bias=not batch_norm,
                kernel_regularizer=penalty,
            )(x)
            if pool:
                x = layers.MaxPooling2D()(x)
            if batch_norm:
                x = layers.BatchNormalization()(x)
            x = layers.ReLU()(x)
        if not early_pool:
            x = layers.MaxPooling2D()(x)
        x = layers.Dropout(dropout)(x)
    if dense:
        x = layers.Dense(dense, activation="relu", kernel_regularizer=penalty)(layers.Flatten()(x))
        x = layers.Dropout(dropout)(x)
    else:
        x = layers.GlobalMaxPooling2D()(x)
    return logits(x, classes, logit_scale)
