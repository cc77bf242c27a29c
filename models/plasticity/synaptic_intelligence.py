"""Synaptic Intelligence: weights that were important for earlier tasks change less.

Zenke, Poole and Ganguli, "Continual Learning Through Synaptic Intelligence", ICML 2017, equations
3 to 5. During a task, each weight `t` adds up by how much its steps reduced the loss. At the end of
the task this becomes an importance. Later tasks pay a penalty for moving important weights:

    omega  = - sum over the task's steps of g * (t_after - t_before)     g = dL/dt, the task's own
    Omega <- Omega + omega / ((t_end - t_start)^2 + xi)                  at the end of each task
    loss   = L + c * sum of Omega * (t - t_end)^2                        of the tasks after it

As in the authors' code (github.com/ganguli-lab/pathint), a negative importance becomes 0, and the
base optimizer keeps its moments from one task to the next. Their settings for ten permuted MNIST
tasks are c = 0.1, xi = 0.1, Adam with a rate of 0.001, batches of 256 and 20 epochs for each task.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from .constants import number
from .wrapper import Step, Wrapper, in_single, inside, values_of


@keras.saving.register_keras_serializable(package="metaplastic")
class SynapticIntelligence(Wrapper):
    """A Keras optimizer around another one. Call `end_task` at the end of each task.

    The gradient of the penalty, `2 * c * Omega * (t - t_end)`, is added to that of the loss before
    `base` takes its step. With strength 0, every step is that of the base optimizer, bit for bit.
    The importances are variables of the optimizer, in float32 or float64, and are saved with it. If
    `base` accumulates gradients, `g` is their mean. If it scales the loss, `g` is not scaled.

    Args:
        base: the `keras.optimizers.Optimizer` that takes the steps.
        strength: `c`, 0..1e6.
        damping: `xi`, 1e-30..1e6. It limits the importance of a weight that hardly moved.
        name: the optimizer's name.

    Raises:
        ValueError: for a constant out of range, or a base that is not a Keras optimizer.
    """

    def __init__(
        self,
        base: keras.optimizers.Optimizer,
        strength: float = 0.1,
        damping: float = 0.1,
        name: str = "synaptic_intelligence",
    ) -> None:
        super().__init__(base, name)
        self.strength = number("strength", strength, at_least=0)
        self.damping = number("damping", damping, above=0)

    def _prepare(self, variables: list[keras.Variable]) -> None:
        zeros = ops.zeros_like
        self._importances = [self._slot(v, "importance", zeros) for v in variables]  # Omega
        self._gains = [self._slot(v, "gain", zeros) for v in variables]  # omega
        # t_end of the previous task; for the first task, the initial weights.
        self._anchors = [self._slot(v, "anchor", ops.copy) for v in variables]
        # The number of batches in each step of a base that accumulates gradients.
        counts = [optimizer.gradient_accumulation_steps or 1 for optimizer in inside(self)]
        self._accumulated = max(counts)
        if self._accumulated > 1:
            self._means = [self._slot(v, "mean_gradient", zeros) for v in variables]

    def _slot(
        self, variable: keras.Variable, name: str, start: Callable[[Any], Any]
    ) -> keras.Variable:
        """Add a variable with the shape of `variable`, in float32 or float64."""
        return self.add_variable(
            shape=variable.shape,
            initializer=lambda shape, dtype: start(in_single(variable)),
            dtype=keras.backend.result_type(variable.dtype, "float32"),
            name=f"{variable.path.replace('/', '_')}_{name}",
        )

    def _around(self, grads: Sequence[Any], variables: Sequence[Any], step: Step) -> None:
        """Let the base optimizer take its step on loss and penalty, and record the gain."""
        scale = self.scale_loss(1.0)  # the gradients are those of the scaled loss
        before = values_of(variables)
        given = list(grads)
        learning = [
            place
            for place, variable in enumerate(variables)
            if grads[place] is not None and not self._overwrite_variable_with_gradient(variable)
        ]
        if self.strength > 0:  # adding zeros would make a sparse gradient dense
            for place in learning:
                pull = self._pull(variables[place], before[place]) * scale
                given[place] = ops.add(grads[place], ops.cast(pull, grads[place].dtype))
        (iterations,) = values_of([self.iterations])
        step(given)
        stepped = ops.not_equal(self.iterations, iterations)
        # A variable that occurs twice was moved by both of its gradients.
        times = Counter(self._var_key(variable) for variable in variables)
        for place in learning:
            count = times[self._var_key(variables[place])]
            gradient = ops.divide(in_single(grads[place]), scale * count)
            # A base that scales the loss skips a step with an infinite gradient.
            gradient = ops.where(ops.isfinite(gradient), gradient, 0.0)
            self._note(gradient, variables[place], before[place], stepped)

    def _pull(self, variable: keras.Variable, value: Any) -> Any:
        """Return the gradient of the penalty at a value of the variable."""
        index = self._get_variable_index(variable)
        away = in_single(value) - self._anchors[index]
        return 2 * self.strength * self._importances[index] * away

    def _note(self, gradient: Any, variable: keras.Variable, old: Any, stepped: Any) -> None:
        """Add the reduction of the loss by the step from the `old` value to the gain."""
        index = self._get_variable_index(variable)
        gain = self._gains[index]
        if self._accumulated > 1:
            mean = self._means[index]
            gradient = mean + gradient / self._accumulated
            mean.assign(ops.where(stepped, 0.0, gradient))
        gain.assign(gain - gradient * (in_single(variable) - in_single(old)))

    def end_task(self) -> None:
        """Update the importance of each weight, and penalise later moves from its current value.

        Raises ValueError if the optimizer is not built, that is, before its first step.
        """
        if not self.built:
            raise ValueError(
                "end_task: expected an optimizer that has learned a task; train with it first, or "
                "call build(variables)"
            )
        slots = zip(
            *(self._trainable_variables, self._importances, self._gains, self._anchors),
            strict=True,
        )
        for variable, importance, gain, anchor in slots:
            moved = ops.square(in_single(variable) - anchor)
            importance.assign(ops.relu(importance + gain / (moved + self.damping)))
            gain.assign(ops.zeros_like(moved))
            anchor.assign(
                ops.copy(ops.convert_to_tensor(variable))
            )  # JAX needs a buffer of its own

    @property
    def importances(self) -> list[Any]:
        """Return the importance of each weight, as arrays in the order of the variables."""
        return [ops.convert_to_numpy(importance) for importance in self._importances]

    def remember(self, importances: Sequence[Any]) -> None:
        """Take over importances that were measured elsewhere, and penalise moves from now on.

        With an importance of 1 everywhere this is an L2 penalty towards the current weights. Raises
        ValueError if the optimizer is not built.
        """
        self.end_task()
        for own, given in zip(self._importances, importances, strict=True):
            own.assign(given)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "strength": self.strength, "damping": self.damping}


@keras.saving.register_keras_serializable(package="metaplastic")
class LossScaledSynapticIntelligence(SynapticIntelligence, keras.optimizers.LossScaleOptimizer):
    """The class of SynapticIntelligence(base) if `base` is a LossScaleOptimizer."""
