"""How large a network is, counted from its layers."""

import math

import keras


def multiply_adds(model: keras.Model) -> int:
    """Multiplications of weights with activations for one image, in all layers with a kernel."""
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
    # A layer with a kernel that is not counted here would make the card wrong without a sign.
    if any(weight.name.endswith("kernel") for weight in layer.weights):
        raise ValueError(f"do not know how to count the multiply-adds of {layer!r}")
    return 0
