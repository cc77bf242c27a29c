"""Fit a network from elsewhere to the service: any number of images, logits, tried on pictures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from models.calibration import softmax
from models.packaging.foreign import ForeignError, Taken
from models.packaging.trial import Trial, try_out
from models.packaging.wrapping import Outputs, Scaling, wrap

MOST_MILLISECONDS = 10_000  # for one picture; the service gives a request no more than 30 s
_SUMS_TO_ONE = 5e-3  # the largest difference, which half precision needs
_SAME = 1e-3  # the largest relative difference between answers to one and to several images


@dataclass(frozen=True)
class Fitting:
    """A network that is being wrapped for the service."""

    network: onnx.ModelProto
    taken: Taken
    scaling: Scaling | None
    classes: int

    def write(self, path: Path, outputs: Outputs | None) -> tuple[Trial, Outputs]:
        """Write the wrapped network to `path`, and return its answers and what they mean.

        Raises ForeignError if it answers nothing sensible, or if `outputs` is needed.
        """
        pictures = _pictures(self.taken)
        try:
            trial = self._try(path, pictures, "logits", singly=False)
            singly = not _agree(trial)
        except ForeignError as error:
            singly, first = True, error
        else:
            first = ForeignError("it answers differently to one picture and to several at once")
        if singly:
            try:
                trial = self._try(path, pictures, "logits", singly=True)
            except ForeignError:
                raise first from None
            if not _agree(trial):
                raise first
        meaning = _meaning(trial.singly, outputs)
        if meaning == "probabilities":
            own = trial.singly
            trial = self._try(path, pictures, meaning, singly=singly)
            if not np.allclose(softmax(trial.singly), own, atol=_SUMS_TO_ONE):
                raise ForeignError(
                    "its outputs are no probabilities: they do not sum to 1; leave out --outputs, "
                    "or give --outputs logits"
                )
        if trial.milliseconds > MOST_MILLISECONDS:
            raise ForeignError(
                f"it takes {trial.milliseconds / 1000:.0f} s for a picture on one thread, and the "
                f"service has no more than {MOST_MILLISECONDS / 1000:g}; use a smaller network"
            )
        return trial, meaning

    def _try(
        self, path: Path, pictures: npt.NDArray[np.float32], outputs: Outputs, *, singly: bool
    ) -> Trial:
        wrapped = wrap(
            *(self.network, self.taken, self.scaling, outputs, self.classes), singly=singly
        )
        onnx.save(wrapped, path)
        trial = try_out(path, pictures)
        expected = (len(pictures), self.classes)
        for found in (trial.together, trial.singly):
            if found.shape != expected:
                raise ForeignError(
                    f"it answers with the shape {found.shape} to {len(pictures)} pictures; "
                    f"expected {expected}"
                )
            if not np.isfinite(found).all():
                raise ForeignError(
                    "it answers NaN or infinity to a made picture; is --scale right, and is every "
                    "weight a number?"
                )
        return trial


def _pictures(taken: Taken) -> npt.NDArray[np.float32]:
    """Return an empty picture, noise and a gradient: (3, height, width, channels) in 0..1."""
    image = (taken.height, taken.width, taken.channels)
    noise = np.random.default_rng(0).random(image)
    gradient = np.broadcast_to(np.linspace(0, 1, taken.width)[:, None], image)
    return np.stack([np.zeros(image), noise, gradient]).astype(np.float32)


def _agree(trial: Trial) -> bool:
    """Return whether a batch gets the answers that each of its pictures gets alone."""
    difference = np.abs(trial.together - trial.singly).max()
    return bool(difference <= _SAME * (1 + np.abs(trial.singly).max()))


def _meaning(answers: npt.NDArray[np.float32], said: Outputs | None) -> Outputs:
    """Return what the outputs are. Raises ForeignError if that must be said."""
    if said is not None:
        return said
    if answers.min() < -1e-6 or answers.max() > 1 + 1e-3:
        return "logits"
    if np.abs(answers.sum(axis=1) - 1).max() <= _SUMS_TO_ONE:
        return "probabilities"
    raise ForeignError(
        "its outputs lie between 0 and 1 and do not sum to 1, as those of sigmoids do, which "
        "answer one question each; the service gives the most probable of all classes. "
        "--outputs logits takes softmax(outputs) all the same"
    )


def doubts_about(trial: Trial) -> list[str]:
    """Return what is odd about the answers to made pictures."""
    if np.ptp(trial.singly, axis=0).max() <= 1e-6 * np.ptp(trial.singly):
        return ["it answers the same to an empty picture, noise and a gradient: is --scale right?"]
    return []
