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

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from models.plasticity.wrapper import Wrapper


@keras.saving.register_keras_serializable(package="metaplastic")
class SynapticIntelligence(Wrapper):
    """A Keras optimizer around another one, told by `end_task` where one task ends.

    The penalty's gradient `2 * c * Omega * (t - t_end)` is added to the loss' before `base` takes
    its step. With strength 0 every step is the base optimizer's, bit for bit. The importances are
    variables of the optimizer, and saved with it.

    Args:
        base: the `keras.optimizers.Optimizer` that takes the steps.
        strength: `c`, a number >= 0.
        damping: `xi`, a number > 0; bounds the importance of a weight that hardly moved.
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
        if not 0 <= strength < float("inf"):
            raise ValueError(f"strength: expected a number of 0 or more, found {strength!r}")
        if not 0 < damping < float("inf"):
            raise ValueError(f"damping: expected a number above 0, found {damping!r}")
        self.strength = float(strength)
        self.damping = float(damping)

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self._importances = self.add_optimizer_variables(variables, "importance")  # Omega
        self._gains = self.add_optimizer_variables(variables, "gain")  # omega
        self._anchors = [  # t_end of the task before; at first, where training starts
            self.add_variable_from_reference(variable, "anchor", _same_as(variable))
            for variable in variables
        ]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Let the base optimizer take its step on loss and penalty, and note what it gained."""
        if not self.built:
            self.build(list(trainable_variables))
        variables = list(trainable_variables or self._trainable_variables)
        # A copy: the PyTorch backend updates in place.
        before = [ops.copy(ops.convert_to_tensor(variable)) for variable in variables]
        penalised = [
            gradient + 2 * self.strength * importance * (old - anchor)
            for gradient, importance, old, anchor in zip(
                grads, self._importances, before, self._anchors, strict=True
            )
        ]
        self.base.apply(penalised, variables)
        for gain, gradient, old, variable in zip(
            self._gains, grads, before, variables, strict=True
        ):
            gain.assign(gain - gradient * (ops.convert_to_tensor(variable) - old))

    def end_task(self) -> None:
        """Add what this task made of each weight to its importance, and hold the weights here."""
        slots = zip(
            *(self._trainable_variables, self._importances, self._gains, self._anchors),
            strict=True,
        )
        for variable, importance, gain, anchor in slots:
            moved = ops.square(variable - anchor)
            importance.assign(ops.relu(importance + gain / (moved + self.damping)))
            gain.assign(ops.zeros_like(moved))
            anchor.assign(ops.copy(ops.convert_to_tensor(variable)))  # JAX wants a buffer each

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "strength": self.strength, "damping": self.damping}


def _same_as(variable: keras.Variable) -> Callable[..., Any]:
    """An initializer that starts another variable with the value of this one."""
    return lambda shape, dtype: ops.copy(ops.convert_to_tensor(variable))
