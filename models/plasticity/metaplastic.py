"""Synaptic metaplasticity: a synapse's history sets how plastic it is.

Any Keras optimizer proposes a step `dw` for the weights `w`; the rule scales it:

    dw = base_step(w, gradient)
    s  = factor(w, dw)              s > 0, and s = 1 is the base optimizer
    w  = w + s * dw

The factor scales the step and not the gradient, because an adaptive optimizer would divide a
scaled gradient by its own scale again. Three rules choose `s`, with a strength `B` (or `m`) and a
clip `c`:

    pattern        s ~ exp(B/2 * mean(x^2)) for each training image x, one scalar for all weights
    kernel         s ~ exp(B/2 * (w / rms(w))^2) for each weight of a convolution kernel
    consolidating  s = 1 - tanh(m * |w|)^2 where the step would shrink |w|, else 1

`pattern` is artificial metaplasticity with the Gaussian choice (Andina et al., IWINAC 2011, doi
10.1007/978-3-642-21344-1_13): rare images teach more. Its constant A only rescales the learning
rate and its (2 pi)^(N/2) overflows, so the factor is computed from the mean over the N inputs, in
log space, and normalised to mean 1 over the batch. `kernel` is our own choice of a factor for
convolutional networks, after the idea, not the equation, of Vives-Boix and Ruiz-Fernandez
(Neurocomputing 2021, doi 10.1016/j.neucom.2021.08.021). `consolidating` follows Laborieux et al.
(Nat. Commun. 12:2549, 2021): large weights resist being undone.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import keras
from keras import ops

from models.plasticity.constants import number
from models.plasticity.learning import Learning
from models.plasticity.owners import convolution_kernels
from models.plasticity.wrapper import Step, Wrapper, in_single, inside, values_of

MetaplasticRule = Literal["pattern", "kernel", "consolidating"]
LARGEST_SQUARED = 1e15  # its square times the largest strength is a float32 still
SMALLEST_MEAN_SQUARE = 1e-28  # far below any trained kernel's; a float32, which 0 would divide by


def metaplastic(plain: Learning, **constants: Any) -> Learning:
    """The optimizer of `plain` with its steps scaled; `constants` are Metaplastic's arguments."""
    optimizer = Metaplastic(plain.optimizer, **constants)
    return dataclasses.replace(plain, optimizer=optimizer, loss_weights=optimizer.loss_weights)


@keras.saving.register_keras_serializable(package="metaplastic")
class Metaplastic(Wrapper):
    """A Keras optimizer around another one, whose steps it scales by a metaplastic factor.

    Which weights: `kernel` acts on the kernels of convolution layers (owners.py says which these
    are), `consolidating` on every variable named a kernel with two axes or more: convolution,
    dense, einsum, attention and recurrent kernels. A locally connected layer is an EinsumDense
    here, whose weights no two places share: `consolidating` acts on it, `kernel` does not. Biases
    and normalisation parameters always get the base optimizer's step. `pattern` acts on all
    weights, through the loss weight of each image: pass `loss_weights(images)` as `sample_weight`
    to `fit`. With strength 0 every step is the base optimizer's, bit for bit.

    The factors are computed in float32 at least, whatever the variables are. Constraints hold
    after the scaled step. Where the base accumulates gradients or skips a step, nothing is scaled.

    Args:
        base: the `keras.optimizers.Optimizer` that proposes the steps.
        rule: "pattern", "kernel" or "consolidating".
        strength: `B` of the first two rules, `m` of the third. 0..1e6.
        clip: `c`; the factors of `pattern` and `kernel` lie within [1/c, c]. 1..1e6.
        name: the optimizer's name.

    Raises:
        ValueError: an unknown rule, a constant out of range, or a base that is no Keras optimizer
            or averages the weights itself where their steps are scaled (its average would hold
            the unscaled ones).
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
        if self.rule == "pattern" or self.strength == 0:  # not even rounded
            scaled = []
        elif self.rule == "kernel":
            scaled = convolution_kernels(variables)
        else:
            scaled = [v for v in variables if v.name.endswith("kernel") and len(v.shape) >= 2]
        self._scaled_keys = frozenset(self._var_key(variable) for variable in scaled)

    @property
    def loss_weights(self) -> Callable[[Any], Any] | None:
        """Under the rule `pattern`, images (N, ...) -> a loss weight each (N,); else None."""
        if self.rule != "pattern":
            return None
        return lambda images: pattern_factors(images, self.strength, self.clip)

    def _around(self, grads: Sequence[Any], variables: Sequence[Any], step: Step) -> None:
        """Let the base optimizer take its step, then scale it where the rule applies."""
        scaled = self._to_scale(grads, variables)
        before = values_of(scaled)
        step(grads)
        for variable, old in zip(scaled, before, strict=True):
            new = self._scaled_step(old, ops.convert_to_tensor(variable))
            variable.assign(new if variable.constraint is None else variable.constraint(new))

    def _to_scale(self, grads: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
        """The variables whose steps are scaled, each once though it may come with two gradients."""
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
        """Raise ValueError where the base, or one inside it, averages steps before their factor."""
        if self.rule == "pattern" or self.strength == 0:
            return
        if any(optimizer.use_ema for optimizer in inside(self)):
            raise ValueError(
                "base: expected an optimizer with use_ema=False, since its moving average would "
                "follow the steps before the metaplastic factor; average in a callback instead"
            )

    def get_config(self) -> dict[str, Any]:
        constants = {"rule": self.rule, "strength": self.strength, "clip": self.clip}
        return {**super().get_config(), **constants}


@keras.saving.register_keras_serializable(package="metaplastic")
class LossScaledMetaplastic(Metaplastic, keras.optimizers.LossScaleOptimizer):
    """What Metaplastic(base) makes where `base` is a LossScaleOptimizer."""


def pattern_factors(images: Any, strength: float, clip: float) -> Any:
    """One factor per image: `exp(B/2 * mean(x^2))`, normalised to mean 1 over the batch, clipped.

    `images` is (N, ...) in the range the network takes; the result is float32 (N,). A value beyond
    LARGEST_SQUARED counts as that.
    """
    if len(images) == 0:
        return ops.zeros((0,), "float32")
    x = ops.reshape(ops.cast(images, "float32"), (len(images), -1))
    x = ops.clip(x, -LARGEST_SQUARED, LARGEST_SQUARED)
    return _normalised(strength / 2 * ops.mean(ops.square(x), axis=1), clip)


def kernel_factors(kernel: Any, strength: float, clip: float) -> Any:
    """`exp(B/2 * (w / rms(w))^2)`, normalised to mean 1 over the kernel, clipped to [1/c, c].

    The shape is the kernel's, the dtype float32 or float64. A kernel of zeros gets 1 everywhere.
    """
    kernel = in_single(kernel)
    largest = ops.max(ops.abs(kernel))
    # Dividing by 1 leaves the usual kernel as it is, to the bit.
    squared = ops.square(kernel / ops.where(largest > LARGEST_SQUARED, largest, 1.0))
    mean = ops.maximum(ops.mean(squared), SMALLEST_MEAN_SQUARE)
    return _normalised(strength / 2 * squared / mean, clip)


def consolidating_factors(weights: Any, strength: float) -> Any:
    """`1 - tanh(m * |w|)^2`: 1 for a weight at 0, towards 0 the larger the weight.

    The shape is that of the weights, the dtype float32 or float64.
    """
    return 1 - ops.square(ops.tanh(strength * in_single(weights)))


def _normalised(log_factors: Any, clip: float) -> Any:
    """exp(log_factors) over its mean, in log space, then clipped."""
    log_mean = ops.logsumexp(log_factors) - math.log(math.prod(log_factors.shape))
    return ops.clip(ops.exp(log_factors - log_mean), 1 / clip, clip)
