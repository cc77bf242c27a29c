"""An optimizer around another one, which takes the steps."""

from typing import Any

import keras


class Wrapper(keras.optimizers.Optimizer):
    """What optimizers around another one share; as Keras' LossScaleOptimizer does it.

    Learning rate and schedule, momentum, clipping, weight decay and gradient accumulation are
    those of `base`, and so is the mixed-precision loss scale. Raises ValueError where `base` is no
    Keras optimizer.
    """

    def __init__(self, base: keras.optimizers.Optimizer, name: str) -> None:
        if not isinstance(base, keras.optimizers.Optimizer):
            raise ValueError(f"base: expected a keras.optimizers.Optimizer, found {base!r}")
        super().__init__(learning_rate=0.0, name=name)
        self.base = base

    def build(self, variables: list[keras.Variable]) -> None:
        if not self.base.built:
            self.base.build(variables)
        super().build(variables)

    @property
    def variables(self) -> list[keras.Variable]:
        return [*self._variables, *self.base.variables]

    @property
    def learning_rate(self) -> Any:
        return self.base.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.base.learning_rate = learning_rate

    @property
    def iterations(self) -> Any:
        return self.base.iterations

    def scale_loss(self, loss: Any) -> Any:
        return self.base.scale_loss(loss)

    def get_config(self) -> dict[str, Any]:
        return {"base": keras.saving.serialize_keras_object(self.base), "name": self.name}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "Wrapper":
        base = keras.saving.deserialize_keras_object(config["base"], custom_objects=custom_objects)
        return cls(**{**config, "base": base})
