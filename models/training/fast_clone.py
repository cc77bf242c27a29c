"""The network as it is trained: the same layers and weights, laid out for speed.

What is published is built of plain Keras layers, channels last, in float32. Training may use a
clone of it in mixed precision and, on PyTorch, with two changes that its CPU and GPU kernels are
much faster with (benchmarks/train.py shows by how much):

- Keras' BatchNormalization is a dozen operations there; the subclass below calls PyTorch's one.
- Keras turns each channels-last convolution's maps around and back; the clone is channels first on
  tensors whose memory stays channels last, which is what PyTorch's convolutions prefer.

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
    """A clone of `network` with its weights, to train on the backend at hand.

    `precision` is a Keras dtype policy, "float32" or "mixed_bfloat16"; the normalisation and the
    logits stay float32. `batch_norm_momentum`, 0 to 1, is how much of batch normalisation's
    averages a step leaves. The clone takes what `network` takes, and answers the same up to
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
    """The class and configuration of a layer's counterpart on channels-first tensors."""
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
    """Rescaling of images (N, height, width, channels), whose answer is channels first."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.transpose(super().call(inputs), (0, 3, 1, 2))

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        n, height, width, channels = input_shape
        return (n, channels, height, width)


# Keras names a layer's entry in a weights file after its class: checkpoints fit any backend.
class EinsumDense(layers.EinsumDense):
    """A locally connected layer's product, turned around for channels-first maps.

    Their memory is channels last: turning them moves nothing.
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

    Differs from Keras' layer in one thing: the moving variance follows the unbiased variance of
    the batch, N / (N - 1) times the biased one.
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
    """Tell glibc to keep what is freed for the next step.

    By default each large tensor is memory that the system maps, clears and takes back, hundreds of
    megabytes a step.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        m_trim_threshold, m_mmap_max = -1, -4
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, -1)
