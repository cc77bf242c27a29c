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
from collections.abc import Callable
from typing import Any, Literal, get_args

import keras
from keras import ops

from models.plasticity.learning import Learning
from models.plasticity.wrapper import Wrapper

MetaplasticRule = Literal["pattern", "kernel", "consolidating"]


def metaplastic(plain: Learning, **constants: Any) -> Learning:
    """The optimizer of `plain` with its steps scaled; `constants` are Metaplastic's arguments."""
    optimizer = Metaplastic(plain.optimizer, **constants)
    return dataclasses.replace(plain, optimizer=optimizer, loss_weights=optimizer.loss_weights)


@keras.saving.register_keras_serializable(package="metaplastic")
class Metaplastic(Wrapper):
    """A Keras optimizer around another one, whose steps it scales by a metaplastic factor.

    Which weights: `kernel` acts on convolution kernels, `consolidating` on convolution and dense
    kernels; biases and normalisation parameters always get the base optimizer's step. `pattern`
    acts on all weights, through the loss weight of each image: pass `loss_weights(images)` as
    `sample_weight` to `fit`. With strength 0 every step is the base optimizer's, bit for bit.

    Args:
        base: the `keras.optimizers.Optimizer` that proposes the steps.
        rule: "pattern", "kernel" or "consolidating".
        strength: `B` of the first two rules, `m` of the third. A number >= 0.
        clip: `c`; the factors of `pattern` and `kernel` lie within [1/c, c]. A number >= 1.
        name: the optimizer's name.

    Raises:
        ValueError: an unknown rule, a constant out of range, or a base that is no Keras optimizer
            or averages the weights itself (its average would hold the unscaled steps).
    """

    def __init__(
        self,
        base: keras.optimizers.Optimizer,
        rule: MetaplasticRule = "kernel",
        strength: float = 0.5,
        clip: float = 4.0,
        name: str = "metaplastic",
    ) -> None:
        _check_constants(rule, strength, clip)
        super().__init__(base, name)
        if base.use_ema:
            raise ValueError(
                "base: expected an optimizer with use_ema=False, since its moving average would "
                "follow the steps before the metaplastic factor; average in a callback instead"
            )
        self.rule = rule
        self.strength = float(strength)
        self.clip = float(clip)

    @property
    def loss_weights(self) -> Callable[[Any], Any] | None:
        """Under the rule `pattern`, images (N, ...) -> a loss weight each (N,); else None."""
        if self.rule != "pattern":
            return None
        return lambda images: pattern_factors(images, self.strength, self.clip)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Let the base optimizer take its step, then scale it where the rule applies."""
        if not self.built:
            self.build(list(trainable_variables))
        variables = trainable_variables or self._trainable_variables
        plastic = [v for v in variables if self._is_plastic(v)]
        # A copy: the PyTorch backend updates in place.
        before = [ops.copy(ops.convert_to_tensor(v)) for v in plastic]
        self.base.apply(grads, variables)
        for variable, old in zip(plastic, before, strict=True):
            new = ops.convert_to_tensor(variable)
            new = self._scaled_step(old, new)
            variable.assign(new if variable.constraint is None else variable.constraint(new))

    def _is_plastic(self, variable: keras.Variable) -> bool:
        """Whether the rule scales this variable's steps: strength 0 must not even round them."""
        if self.strength == 0 or self.rule == "pattern" or not variable.name.endswith("kernel"):
            return False
        return len(variable.shape) >= (3 if self.rule == "kernel" else 2)

    def _scaled_step(self, old: Any, new: Any) -> Any:
        if self.rule == "kernel":
            return old + kernel_factors(old, self.strength, self.clip) * (new - old)
        shrinks = ops.abs(new) < ops.abs(old)
        consolidated = old + consolidating_factors(old, self.strength) * (new - old)
        return ops.where(shrinks, consolidated, new)

    def get_config(self) -> dict[str, Any]:
        constants = {"rule": self.rule, "strength": self.strength, "clip": self.clip}
        return {**super().get_config(), **constants}


def pattern_factors(images: Any, strength: float, clip: float) -> Any:
    """One factor per image: `exp(B/2 * mean(x^2))`, normalised to mean 1 over the batch, clipped.

    `images` is (N, ...) in the range the network takes; the result is float32 (N,).
    """
    x = ops.reshape(ops.cast(images, "float32"), (len(images), -1))
    return _normalised(strength / 2 * ops.mean(ops.square(x), axis=1), clip)


def kernel_factors(kernel: Any, strength: float, clip: float) -> Any:
    """`exp(B/2 * (w / rms(w))^2)`, normalised to mean 1 over the kernel, clipped to [1/c, c].

    The shape and dtype are the kernel's. A kernel of zeros gets 1 everywhere.
    """
    squared = ops.square(kernel)
    smallest = keras.config.epsilon() ** 4  # far below any trained kernel's mean square
    return _normalised(strength / 2 * squared / ops.maximum(ops.mean(squared), smallest), clip)


def consolidating_factors(weights: Any, strength: float) -> Any:
    """`1 - tanh(m * |w|)^2`: 1 for a weight at 0, towards 0 the larger the weight."""
    return 1 - ops.square(ops.tanh(strength * weights))


def _check_constants(rule: str, strength: float, clip: float) -> None:
    if rule not in get_args(MetaplasticRule):
        known = ", ".join(get_args(MetaplasticRule))
        raise ValueError(f"rule: expected one of {known}, found {rule!r}")
    if not _is_finite_number(strength) or strength < 0:
        raise ValueError(f"strength: expected a number of 0 or more, found {strength!r}")
    if not _is_finite_number(clip) or clip < 1:
        raise ValueError(f"clip: expected a number of 1 or more, found {clip!r}")


def _is_finite_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < float("inf")


def _normalised(log_factors: Any, clip: float) -> Any:
    """exp(log_factors) over its mean, in log space, then clipped."""
    log_mean = ops.logsumexp(log_factors) - math.log(math.prod(log_factors.shape))
    return ops.clip(ops.exp(log_factors - log_mean), 1 / clip, clip)
