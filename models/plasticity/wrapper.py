"""The base class of optimizers that wrap another one."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops
from keras.optimizers import LossScaleOptimizer

Step = Callable[[Sequence[Any]], Any]  # makes the base take a step with these gradients


def _of_the_base(name: str) -> Any:
    """Return a property that reads and writes the attribute `name` of the base."""

    def read(self: "Wrapper") -> Any:
        return getattr(self.base, name)

    def write(self: "Wrapper", value: Any) -> None:
        if hasattr(self, "base"):  # Keras' __init__ sets defaults before the base exists
            setattr(self.base, name, value)

    return property(read, write)


class Wrapper(keras.optimizers.Optimizer):
    """An optimizer around `base`. Everything except `_around` is that of the base.

    Learning rate and schedule, clipping, weight decay, gradient accumulation, weight averages, loss
    scale and the number of iterations belong to the base, whether they are read, set or saved.
    Attributes that only the base has, such as `beta_1`, can be read from the wrapper too. The
    weights are those of the base, followed by those of the wrapper. A subclass overrides `_around`.
    It overrides `_prepare` if it needs the variables that the base was built for.

    Around a `keras.optimizers.LossScaleOptimizer`, the new object belongs to a subclass that is
    also a LossScaleOptimizer. Otherwise `Model.compile` would add a second loss scale.

    Raises ValueError if `base` is not a Keras optimizer.
    """

    built: bool
    weight_decay = _of_the_base("weight_decay")
    clipnorm = _of_the_base("clipnorm")
    clipvalue = _of_the_base("clipvalue")
    global_clipnorm = _of_the_base("global_clipnorm")
    use_ema = _of_the_base("use_ema")
    ema_momentum = _of_the_base("ema_momentum")
    ema_overwrite_frequency = _of_the_base("ema_overwrite_frequency")
    loss_scale_factor = _of_the_base("loss_scale_factor")
    gradient_accumulation_steps = _of_the_base("gradient_accumulation_steps")
    learning_rate = _of_the_base("learning_rate")
    iterations = _of_the_base("iterations")
    # Keras' own methods, callbacks and trainers read these.
    _iterations = _of_the_base("_iterations")
    _trainable_variables = _of_the_base("_trainable_variables")
    _trainable_variables_indices = _of_the_base("_trainable_variables_indices")
    _model_variables_moving_average = _of_the_base("_model_variables_moving_average")

    def __new__(cls, base: Any = None, *constants: Any, **settings: Any) -> "Wrapper":
        kind = cls
        if isinstance(base, LossScaleOptimizer) and not issubclass(cls, LossScaleOptimizer):
            scaled = (made for made in cls.__subclasses__() if issubclass(made, LossScaleOptimizer))
            kind = next(scaled, cls)
        optimizer: Wrapper = super().__new__(kind)
        return optimizer

    def __init__(self, base: keras.optimizers.Optimizer, name: str) -> None:
        if not isinstance(base, keras.optimizers.Optimizer):
            raise ValueError(f"base: expected a keras.optimizers.Optimizer, found {base!r}")
        # Not super(), which would be LossScaleOptimizer if the base is one.
        keras.optimizers.Optimizer.__init__(self, learning_rate=0.0, name=name)
        for unused in list(
            self._variables
        ):  # its own iterations and learning rate; the base has both
            self._untrack_variable(unused)
        self.base = base

    def __getattr__(self, name: str) -> Any:
        """Return a public attribute that only the base has."""
        if name.startswith("_") or "base" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.base, name)

    def build(self, variables: list[keras.Variable]) -> None:
        """Build the base, if necessary, and the wrapper's own state for the same variables."""
        if not self.base.built:
            self.base.build(variables)
        if not self.built:
            self._prepare(self._trainable_variables)
        self.built = True

    def _prepare(self, variables: list[keras.Variable]) -> None:
        """Create the wrapper's own state for the variables of the base."""

    @property
    def variables(self) -> list[keras.Variable]:
        return [*self.base.variables, *self._variables]

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Take a step, as `keras.optimizers.Optimizer.apply` does.

        Raises ValueError for variables that the optimizer was not built for, and if the number of
        variables is not that of the gradients.
        """
        if len(grads) == 0:
            return
        if trainable_variables is None:
            if not self.built or len(grads) != len(self._trainable_variables_indices):
                keras.optimizers.Optimizer.apply(self, grads)  # raises Keras' own error
            self._around(grads, self._trainable_variables, self.base.apply)
            return
        variables = list(trainable_variables)
        if len(grads) != len(variables):
            raise ValueError(
                f"grads: expected one for each of the {len(variables)} variables, "
                f"found {len(grads)}"
            )
        if not self.built:
            self.build(variables)
        self._check_variables_are_known(variables)
        self._around(grads, variables, lambda given: self.base.apply(given, variables))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        def step(given: Sequence[Any]) -> None:
            self.base.update_step(given[0], variable, learning_rate)

        self._around([gradient], [variable], step)

    def stateless_apply(
        self,
        optimizer_variables: Sequence[Any],
        grads: Sequence[Any],
        trainable_variables: Sequence[Any],
    ) -> tuple[list[Any], list[Any]]:
        """Take a step on values, as `keras.optimizers.Optimizer.stateless_apply` does.

        The base takes its own stateless step, because `apply` is not always equivalent: on JAX, the
        `apply` of a LossScaleOptimizer cannot be traced.
        """
        if not self.built or keras.backend.backend() == "tensorflow":
            # Raises Keras' own error.
            keras.optimizers.Optimizer.stateless_apply(
                self, optimizer_variables, grads, trainable_variables
            )
        known, state = self._trainable_variables, self.variables
        of_the_base = optimizer_variables[: len(optimizer_variables) - len(self._variables)]

        def step(given: Sequence[Any]) -> None:
            weights, rest = self.base.stateless_apply(of_the_base, given, trainable_variables)
            stepped = zip([*known, *self.base.variables], [*weights, *rest], strict=True)
            for variable, value in stepped:
                variable.assign(value)

        given = [*trainable_variables, *optimizer_variables]
        values = list(zip([*known, *state], given, strict=False))  # the base checks their number
        with keras.StatelessScope(state_mapping=values) as scope:
            self._around(grads, known, step)
            return (
                [scope.get_current_value(variable) for variable in known],
                [scope.get_current_value(variable) for variable in state],
            )

    def _around(self, grads: Sequence[Any], variables: Sequence[Any], step: Step) -> None:
        """Call `step` exactly once, with the gradients for the base. Some may be None.

        Gradients and variables correspond by position.
        """
        raise NotImplementedError

    def set_weights(self, weights: Sequence[Any]) -> None:
        count = len(self.base.variables)
        self.base.set_weights(weights[:count])
        super().set_weights(weights[count:])

    def scale_loss(self, loss: Any) -> Any:
        return self.base.scale_loss(loss)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        self.base.exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        self.base.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        return {"base": keras.saving.serialize_keras_object(self.base), "name": self.name}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "Wrapper":
        base = keras.saving.deserialize_keras_object(config["base"], custom_objects=custom_objects)
        return cls(**{**config, "base": base})


def inside(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """Return the optimizers inside `optimizer`, at any depth."""
    wrapped = [getattr(optimizer, name, None) for name in ("base", "inner_optimizer")]
    wrapped = [inner for inner in wrapped if inner is not None]
    wrapped += getattr(optimizer, "optimizers", [])  # of a MultiOptimizer
    return [found for inner in wrapped for found in (inner, *inside(inner))]


def values_of(variables: Sequence[Any]) -> list[Any]:
    """Return copies of the variables' values, because the PyTorch backend updates in place."""
    return [ops.copy(ops.convert_to_tensor(variable)) for variable in variables]


def in_single(values: Any) -> Any:
    """Return a tensor in float32, or in float64 if it was. float16 is too coarse for factors."""
    tensor = ops.convert_to_tensor(values)
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return ops.cast(tensor, keras.backend.result_type(dtype, "float32"))
