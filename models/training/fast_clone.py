"""A clone of a network for training: the same layers and weights in a faster layout.

A published network consists of standard Keras layers, channels last, in float32. Training uses a
clone, perhaps in mixed precision. On PyTorch the clone differs in two ways that make its kernels
much faster (benchmarks/train.py measures by how much):

- Keras' BatchNormalization runs a dozen operations. The subclass below runs PyTorch's single one.
- Keras transposes the maps of each channels-last convolution forth and back. The layers of the
  clone are channels first, on tensors whose memory stays channels last. PyTorch's convolutions are
  fastest this way.

Weights keep their shapes and order: `clone.get_weights()` fits `network.set_weights()`.
"""

import ctypes
import sys
from typing import Any

import keras
from keras import layers

if keras.backend.backend() == "torch":
    import torch


def fast_clone(
    network: keras.Model, precision: str, batch_norm_momentum: float = 0.99
) -> keras.Model:
    """Return a clone of `network`, with its weights, for training on the current backend.

    `precision` is a Keras dtype policy, "float32" or "mixed_bfloat16". The normalisation and the
    logits stay in float32. `batch_norm_momentum` (0..1) is the share of the moving averages of
    batch normalisation that remains after each step. Input and output are those of `network`, up to
    rounding.
    """
    on_torch = keras.backend.backend() == "torch"
    if on_torch:
        keep_freed_memory()

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind, config = type(layer), layer.get_config()
        if layer.name not in ("normalisation", "unscaled", network.layers[-1].name):
            config["dtype"] = precision
        if kind is layers.BatchNormalization:
            config["momentum"] = batch_norm_momentum
        if on_torch:
            kind, config = _channels_first(kind, config)
        return kind.from_config(config)

    trained = keras.models.clone_model(network, clone_function=clone)
    trained.set_weights(network.get_weights())
    return trained


def _channels_first(kind: Any, config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the class and configuration of a layer's counterpart for channels-first tensors."""
    if "data_format" in config:
        config["data_format"] = "channels_first"
    if kind is layers.BatchNormalization:
        return BatchNormalization, {**config, "axis": 1}
    if kind is layers.EinsumDense:
        return EinsumDense, config
    if kind is layers.Concatenate:
        return kind, {**config, "axis": 1}
    if kind is layers.Rescaling and config["name"] == "normalisation":
        return ChannelsFirstRescaling, config
    return kind, config


class ChannelsFirstRescaling(layers.Rescaling):
    """Rescaling of images (N, height, width, channels) with a channels-first output."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.transpose(super().call(inputs), (0, 3, 1, 2))

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        n, height, width, channels = input_shape
        return (n, channels, height, width)


# The next two classes have the names of the originals: Keras names the entries of a weights file
# after the class, and so a checkpoint fits any backend.
class EinsumDense(layers.EinsumDense):
    """The product of a locally connected layer, for channels-first maps.

    Their memory is channels last, so that the transpositions copy nothing.
    """

    def build(self, input_shape: tuple[Any, ...]) -> None:
        n, channels, height, width = input_shape
        super().build((n, height, width, channels))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = super().call(keras.ops.transpose(inputs, (0, 2, 3, 1)), training)
        return keras.ops.transpose(outputs, (0, 3, 1, 2))

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        height, width, filters = self.partial_output_shape
        return (input_shape[0], filters, height, width)


class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation by PyTorch's fused kernel, for channels-first tensors.

    It differs from Keras' layer in one way: the moving variance follows the unbiased variance of
    the batch, which is N / (N - 1) times the biased one.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return torch.nn.functional.batch_norm(
            inputs,
            self.moving_mean.value,
            self.moving_variance.value,
            self.gamma.value if self.scale else None,
            self.beta.value if self.center else None,
            training=bool(training) and self.trainable,
            momentum=1 - self.momentum,
            eps=self.epsilon,
        )


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next step.

    By default, the kernel maps and clears new memory for each large tensor and takes it back
    afterwards: hundreds of megabytes for each step.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl does not have it
    if mallopt is not None:
        m_trim_threshold, m_mmap_max = -1, -4  # parameter numbers from malloc.h
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, -1)
