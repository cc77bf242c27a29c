"""Synaptic Intelligence: what a weight did for earlier tasks holds it where it was.

Zenke, Poole and Ganguli, "Continual Learning Through Synaptic Intelligence", ICML 2017, equations
3 to 5. While a task is learned, each weight `t` sums what its steps took off the loss; at the
task's end that becomes an importance, with which further tasks are told to leave it alone:

    omega  = - sum over the task's steps of g * (t_after - t_before)     g = dL/dt, the task's own
    Omega <- Omega + omega / ((t_end - t_start)^2 + xi)                  at the end of each task
    loss   = L + c * sum of Omega * (t - t_end)^2                        of the tasks after it

As in the authors' code (github.com/ganguli-lab/pathint), an importance below 0 becomes 0, and the
base optimizer keeps its moments from one task to the next. Their constants for ten permuted MNIST
tasks are c = 0.1, xi = 0.1, Adam at 0.001, batches of 256 and 20 epochs a task.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from models.plasticity.constants import number
from models.plasticity.wrapper import Step, Wrapper, in_single, inside, values_of


@keras.saving.register_keras_serializable(package="metaplastic")
class SynapticIntelligence(Wrapper):
    """A Keras optimizer around another one, told by `end_task` where one task ends.

    The penalty's gradient `2 * c * Omega * (t - t_end)` is added to the loss' before `base` takes
    its step. With strength 0 every step is the base optimizer's, bit for bit. The importances are
    variables of the optimizer, of float32 at least, and saved with it. Where `base` accumulates
    gradients, a step's `g` is their mean; where it scales the loss, its steps are noted unscaled.

    Args:
        base: the `keras.optimizers.Optimizer` that takes the steps.
        strength: `c`, 0..1e6.
        damping: `xi`, 1e-30..1e6; bounds the importance of a weight that hardly moved.
        name: the optimizer's name.

    Raises:
        ValueError: a constant out of range, or a base that is no Keras optimizer.
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
        # t_end of the task before; at first, where training starts.
        self._anchors = [self._slot(v, "anchor", ops.copy) for v in variables]
        # A base that accumulates gradients takes one step with the mean of so many.
        counts = [optimizer.gradient_accumulation_steps or 1 for optimizer in inside(self)]
        self._accumulated = max(counts)
        if self._accumulated > 1:
            self._means = [self._slot(v, "mean_gradient", zeros) for v in variables]

    def _slot(
        self, variable: keras.Variable, name: str, start: Callable[[Any], Any]
    ) -> keras.Variable:
        """Add a variable of the shape of `variable`, in float32 at least."""
        return self.add_variable(
            shape=variable.shape,
            initializer=lambda shape, dtype: start(in_single(variable)),
            dtype=keras.backend.result_type(variable.dtype, "float32"),
            name=f"{variable.path.replace('/', '_')}_{name}",
        )

    def _around(self, grads: Sequence[Any], variables: Sequence[Any], step: Step) -> None:
        """Let the base optimizer take its step on loss and penalty, and note what it gained."""
        scale = self.scale_loss(1.0)  # of the loss that these are the gradients of
        before = values_of(variables)
        given = list(grads)
        learning = [
            place
            for place, variable in enumerate(variables)
            if grads[place] is not None and not self._overwrite_variable_with_gradient(variable)
        ]
        if self.strength > 0:  # adding 0 would make a sparse gradient dense
            for place in learning:
                pull = self._pull(variables[place], before[place]) * scale
                given[place] = ops.add(grads[place], ops.cast(pull, grads[place].dtype))
        (iterations,) = values_of([self.iterations])
        step(given)
        stepped = ops.not_equal(self.iterations, iterations)
        # A variable that came with two gradients moved by both.
        times = Counter(self._var_key(variable) for variable in variables)
        for place in learning:
            count = times[self._var_key(variables[place])]
            gradient = ops.divide(in_single(grads[place]), scale * count)
            # A base that scales the loss leaves such a step out.
            gradient = ops.where(ops.isfinite(gradient), gradient, 0.0)
            self._note(gradient, variables[place], before[place], stepped)

    def _pull(self, variable: keras.Variable, value: Any) -> Any:
        """The penalty's gradient at a value of the variable."""
        index = self._get_variable_index(variable)
        away = in_single(value) - self._anchors[index]
        return 2 * self.strength * self._importances[index] * away

    def _note(self, gradient: Any, variable: keras.Variable, old: Any, stepped: Any) -> None:
        """Add what the move of a variable from its `old` value took off the loss to its gain."""
        index = self._get_variable_index(variable)
        gain = self._gains[index]
        if self._accumulated > 1:
            mean = self._means[index]
            gradient = mean + gradient / self._accumulated
            mean.assign(ops.where(stepped, 0.0, gradient))
        gain.assign(gain - gradient * (in_single(variable) - in_single(old)))

    def end_task(self) -> None:
        """Add what this task made of each weight to its importance, and hold the weights here.

        Raises ValueError before the optimizer is built, as it is by its first step.
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
            anchor.assign(ops.copy(ops.convert_to_tensor(variable)))  # JAX wants a buffer each

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "strength": self.strength, "damping": self.damping}


@keras.saving.register_keras_serializable(package="metaplastic")
class LossScaledSynapticIntelligence(SynapticIntelligence, keras.optimizers.LossScaleOptimizer):
    """What SynapticIntelligence(base) makes where `base` is a LossScaleOptimizer."""
