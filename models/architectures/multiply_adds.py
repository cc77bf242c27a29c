"""Count the multiply-adds of a network from its layers."""

import math

import keras


def multiply_adds(model: keras.Model) -> int:
    """Return the number of multiplications of a weight with an activation for one image.

    Raises ValueError for a layer that has a kernel and is of an unknown kind.
    """
    return sum(_layer_multiply_adds(layer) for layer in model.layers)


def _layer_multiply_adds(layer: keras.layers.Layer) -> int:
    if isinstance(layer, keras.layers.Dense):
        return math.prod(layer.kernel.shape)
    if isinstance(layer, keras.layers.Conv2D):
        _, height, width, _ = layer.output.shape
        return math.prod((*layer.kernel.shape, height, width))
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, kernel = layer.equation.partition("->")[0].split(",")
        sizes = dict(zip(kernel, layer.kernel.shape, strict=True))
        sizes |= zip(inputs, (1, *layer.input.shape[1:]), strict=True)
        return math.prod(sizes.values())
    # Refuse the unknown: a layer that is left out would silently make the card wrong.
    if any(weight.name.endswith("kernel") for weight in layer.weights):
        raise ValueError(f"cannot count the multiply-adds of {layer!r}: add its kind to {__name__}")
    return 0
