"""Synaptic metaplasticity: the history of a synapse determines how plastic it is.

Any Keras optimizer proposes a step `dw` for the weights `w`. The rule scales this step:

    dw = base_step(w, gradient)
    s  = factor(w, dw)              s > 0; s = 1 is the base optimizer
    w  = w + s * dw

The factor scales the step and not the gradient, because an adaptive optimizer would divide the
scaled gradient by its own scale. Three rules choose `s`. They have a strength `B` (or `m`) and a
clip `c`:

    pattern        s ~ exp(B/2 * mean(x^2)) for each training image x, one scalar for all weights
    kernel         s ~ exp(B/2 * (w / rms(w))^2) for each weight of a convolution kernel
    consolidating  s = 1 - tanh(m * |w|)^2 where the step would shrink |w|, else 1

`pattern` is artificial metaplasticity with a Gaussian density (Andina et al., IWINAC 2011, doi
10.1007/978-3-642-21344-1_13). Rare images have more influence. The paper's constant A only rescales
the learning rate, and its factor (2 pi)^(N/2) overflows. So the factor is computed here from the
mean over the N inputs, in log space, and normalised to a mean of 1 over the batch.

`kernel` is our own factor for convolutional networks. It follows the idea but not the equation of
Vives-Boix and Ruiz-Fernandez (Neurocomputing 2021, doi 10.1016/j.neucom.2021.08.021).

`consolidating` follows Laborieux et al. (Nat. Commun. 12:2549, 2021). Large weights resist a step
that would shrink them.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import keras
from keras import ops

from .constants import number
from .learning import Learning
from .owners import convolution_kernels
from .wrapper import Step, Wrapper, in_single, inside, values_of

MetaplasticRule = Literal["pattern", "kernel", "consolidating"]
LARGEST_SQUARED = 1e15  # its square times the largest strength still fits into a float32
SMALLEST_MEAN_SQUARE = 1e-28  # avoids a division by 0; far below that of any trained kernel


def metaplastic(baseline: Learning, **constants: Any) -> Learning:
    """Return `baseline` with scaled steps. `constants` are arguments of Metaplastic."""
    optimizer = Metaplastic(baseline.optimizer, **constants)
    return dataclasses.replace(baseline, optimizer=optimizer, loss_weights=optimizer.loss_weights)


@keras.saving.register_keras_serializable(package="metaplastic")
class Metaplastic(Wrapper):
    """A Keras optimizer that scales the steps of another one by a metaplastic factor.

    `kernel` acts on the kernels of convolution layers (see owners.py). `consolidating` acts on
    every variable that is named a kernel and has two or more axes: kernels of convolution, dense,
    einsum, attention and recurrent layers. A locally connected layer is an EinsumDense here, so
    `consolidating` acts on it and `kernel` does not. Biases and normalisation parameters always get
    the step of the base optimizer. `pattern` acts on all weights through the loss weight of each
    image: pass `loss_weights(images)` as `sample_weight` to `fit`. With strength 0, every step is
    that of the base optimizer, bit for bit.

    The factors are computed in float32 or float64, whatever the variables are. Constraints hold
    after the scaled step. If the base accumulates gradients or skips a step, nothing is scaled.

    Args:
        base: the `keras.optimizers.Optimizer` that proposes the steps.
        rule: "pattern", "kernel" or "consolidating".
        strength: `B` of the first two rules, `m` of the third, 0..1e6.
        clip: `c`, 1..1e6. The factors of `pattern` and `kernel` lie in [1/c, c].
        name: the optimizer's name.

    Raises:
        ValueError: for an unknown rule, a constant out of range, or a base that is not a Keras
            optimizer. Also for a base with `use_ema` if steps are scaled, because its average would
            follow the steps before the factor.
    """

    def __init__(
        self,
        base: keras.optimizers.Optimizer,
        rule: MetaplasticRule = "kernel",
        strength: float = 0.5,
        clip: float = 4.0,
        name: str = "metaplastic",
    ) -> None:
        if rule not in get_args(MetaplasticRule):
            known = ", ".join(get_args(MetaplasticRule))
            raise ValueError(f"rule: expected one of {known}, found {rule!r}")
        super().__init__(base, name)
        self.rule = rule
        self.strength = number("strength", strength, at_least=0)
        self.clip = number("clip", clip, at_least=1)
        self._scaled_keys: frozenset[Any] = frozenset()
        self._refuse_averages()

    def build(self, variables: list[keras.Variable]) -> None:
        self._refuse_averages()
        super().build(variables)

    def _prepare(self, variables: list[keras.Variable]) -> None:
        if self.rule == "pattern" or self.strength == 0:  # every step stays exact
            scaled = []
        elif self.rule == "kernel":
            scaled = convolution_kernels(variables)
        else:
            scaled = [v for v in variables if v.name.endswith("kernel") and len(v.shape) >= 2]
        self._scaled_keys = frozenset(self._var_key(variable) for variable in scaled)

    @property
    def loss_weights(self) -> Callable[[Any], Any] | None:
        """Return a function from images (N, ...) to loss weights (N,), or None.

        Only the rule `pattern` has loss weights.
        """
        if self.rule != "pattern":
            return None
        return lambda images: pattern_factors(images, self.strength, self.clip)

    def _around(self, grads: Sequence[Any], variables: Sequence[Any], step: Step) -> None:
        """Let the base optimizer take its step, then scale it for the variables of the rule."""
        scaled = self._to_scale(grads, variables)
        before = values_of(scaled)
        step(grads)
        for variable, old in zip(scaled, before, strict=True):
            new = self._scaled_step(old, ops.convert_to_tensor(variable))
            variable.assign(new if variable.constraint is None else variable.constraint(new))

    def _to_scale(self, grads: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
        """Return the variables whose steps are scaled, each once even if it has two gradients."""
        found = {}
        for gradient, variable in zip(grads, variables, strict=True):
            key = self._var_key(variable)
            if gradient is not None and key in self._scaled_keys:
                found[key] = variable
        return list(found.values())

    def _scaled_step(self, old: Any, new: Any) -> Any:
        dtype, old, new = new.dtype, in_single(old), in_single(new)
        if self.rule == "kernel":
            scaled = old + kernel_factors(old, self.strength, self.clip) * (new - old)
        else:
            consolidated = old + consolidating_factors(old, self.strength) * (new - old)
            scaled = ops.where(ops.abs(new) < ops.abs(old), consolidated, new)
        return ops.cast(scaled, dtype)

    def _refuse_averages(self) -> None:
        """Raise ValueError if the base, or an optimizer inside it, would average unscaled steps."""
        if self.rule == "pattern" or self.strength == 0:
            return
        if any(optimizer.use_ema for optimizer in inside(self)):
            raise ValueError(
                "base: expected an optimizer with use_ema=False, because its moving average would "
                "follow the steps before the metaplastic factor; average in a callback instead"
            )

    def get_config(self) -> dict[str, Any]:
        constants = {"rule": self.rule, "strength": self.strength, "clip": self.clip}
        return {**super().get_config(), **constants}


@keras.saving.register_keras_serializable(package="metaplastic")
class LossScaledMetaplastic(Metaplastic, keras.optimizers.LossScaleOptimizer):
    """The class of Metaplastic(base) if `base` is a LossScaleOptimizer."""


def pattern_factors(images: Any, strength: float, clip: float) -> Any:
    """Return `exp(B/2 * mean(x^2))` for each image, normalised to a mean of 1 and clipped.

    `images` is (N, ...), with values as the network gets them. The result is float32 (N,). Values
    beyond LARGEST_SQUARED are clipped to it.
    """
    if len(images) == 0:
        return ops.zeros((0,), "float32")
    x = ops.reshape(ops.cast(images, "float32"), (len(images), -1))
    x = ops.clip(x, -LARGEST_SQUARED, LARGEST_SQUARED)
    return _normalised(strength / 2 * ops.mean(ops.square(x), axis=1), clip)


def kernel_factors(kernel: Any, strength: float, clip: float) -> Any:
    """Return `exp(B/2 * (w / rms(w))^2)`, normalised to a mean of 1 and clipped to [1/c, c].

    The shape is that of the kernel, the dtype float32 or float64. For a kernel of zeros, all
    factors are 1.
    """
    kernel = in_single(kernel)
    largest = ops.max(ops.abs(kernel))
    # The square of a very large kernel would overflow. A division by 1 changes no bit.
    squared = ops.square(kernel / ops.where(largest > LARGEST_SQUARED, largest, 1.0))
    mean = ops.maximum(ops.mean(squared), SMALLEST_MEAN_SQUARE)
    return _normalised(strength / 2 * squared / mean, clip)


def consolidating_factors(weights: Any, strength: float) -> Any:
    """Return `1 - tanh(m * |w|)^2`: 1 for a weight of 0, close to 0 for a large weight.

    The shape is that of the weights, the dtype float32 or float64.
    """
    return 1 - ops.square(ops.tanh(strength * in_single(weights)))


def _normalised(log_factors: Any, clip: float) -> Any:
    """Return exp(log_factors) divided by its mean, computed in log space, then clipped."""
    log_mean = ops.logsumexp(log_factors) - math.log(math.prod(log_factors.shape))
    return ops.clip(ops.exp(log_factors - log_mean), 1 / clip, clip)
