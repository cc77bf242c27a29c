"""The table of architectures: a builder registers under its own name, joined by hyphens."""

from collections.abc import Callable

import keras

Builder = Callable[..., keras.Model]
ARCHITECTURES: dict[str, Builder] = {}


def register(builder: Builder) -> Builder:
    """Decorator: make `builder` available by its name; `wide_lenet` is `build("wide-lenet", ...)`.

    A builder takes `(input_shape, classes, *, mean, std, **knobs)` and returns a keras.Model from
    float32 images (N, height, width, channels) in 0..1 to float32 logits (N, classes).
    """
    ARCHITECTURES[builder.__name__.replace("_", "-")] = builder
    return builder


def normalised_input(
    shape: tuple[int, int, int], mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """An input of images in 0..1 and the same images with the data set's normalisation applied.

    The normalisation is part of the network, so that an image means the same in training, in
    Keras and in the service.
    """
    inputs = keras.Input(shape, name="image")
    # Not layers.Normalization: exported to ONNX, its constants become inputs of their own.
    normalise = keras.layers.Rescaling(
        scale=[1 / s for s in std],
        offset=[-m / s for m, s in zip(mean, std, strict=True)],
        name="normalisation",
    )
    return inputs, normalise(inputs)
