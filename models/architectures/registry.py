"""The table of architectures, and the input layers that all of them share."""

import functools
from collections.abc import Callable
from typing import Any

import keras

# (inputs, classes, **options) -> outputs; see `register`.
Builder = Callable[..., keras.KerasTensor]
# (input_shape, classes, *, mean, std, **options) -> network; see `register`.
Architecture = Callable[..., keras.Model]

ARCHITECTURES: dict[str, Architecture] = {}


def register(builder: Builder) -> Architecture:
    """Add `builder` to ARCHITECTURES under its own name and return the complete architecture.

    An underscore in the name becomes a hyphen: `wide_lenet` is `build("wide-lenet", ...)`.

    A builder takes `(inputs, classes, **options)`. `inputs` is a float32 tensor of normalised
    images (N, height, width, channels). The builder returns float32 logits (N, classes).

    The returned function takes `(input_shape, classes, *, mean, std, **options)`. It puts the input
    and the normalisation in front of the builder's layers. The network takes float32 images in
    0..1. Its name is the builder's.
    """

    @functools.wraps(builder)  # keeps the signature, from which `check_options` reads the options
    def architecture(
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        **options: Any,
    ) -> keras.Model:
        image, inputs = normalised_input(input_shape, mean, std)
        return keras.Model(image, builder(inputs, classes, **options), name=builder.__name__)

    ARCHITECTURES[builder.__name__.replace("_", "-")] = architecture
    return architecture


def normalised_input(
    shape: tuple[int, int, int], mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return an input for images in 0..1 and the same images after normalisation.

    `shape` is (height, width, channels). `mean` and `std` have one entry for each channel, for
    values in 0..1. The normalisation is a layer of the network, so that an image means the same in
    training, in Keras and in the service.
    """
    image = keras.Input(shape, name="image")
    # Not layers.Normalization: its constants become extra inputs of the exported ONNX model.
    normalise = keras.layers.Rescaling(
        scale=[1 / s for s in std],
        offset=[-m / s for m, s in zip(mean, std, strict=True)],
        name="normalisation",
    )
    return image, normalise(image)
