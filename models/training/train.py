"""Train one network by one recipe and write a run folder that can be served and published."""

from datetime import UTC, datetime

import keras

from models.architectures.flip_average import flip_average
from models.architectures.multiply_adds import multiply_adds
from models.architectures.whitening import whiten
from models.cards import KERAS_MODEL, Card, Distillation, Training, checksums, write_card
from models.data.batches import TrainingBatches, ValidationBatches
from models.data.datasets import Arrays, Images, Labels, dataset, load
from models.packaging.export import agreement, export, keras_logits, onnx_logits
from models.packaging.half_precision import compact_keras, round_weights
from models.packaging.plots import draw_confusion, draw_curves
from models.packaging.scoring import calibrate, score
from models.plasticity.learning import Learning
from models.training.averaging import has_tail, measure_batch_norm, tail_mean
from models.training.build import build_learning, build_network, image_input
from models.training.distillation import teacher, teachers_of
from models.training.epochs import (
    EpochKeeper,
    EpochStarter,
    History,
    Stopper,
    keep_best,
    kept_epoch,
    patience_is_over,
    start_epoch,
)
from models.training.fast_clone import fast_clone
from models.training.hardware import backend_name, hardware
from models.training.interruption import interrupted_between_steps
from models.training.progress import TrainingProgress
from models.training.runs import (
    BEST,
    Run,
    checkpoint_path,
    claimed,
    finish_run,
    hardware_of,
    note_hardware,
    read_history,
    trained_on,
)


def train(run: Run) -> Card:
    """Train `run` from its last finished epoch, write the files of the model and return its card.

    The model gets the weights of `kept_epoch`. The test set is not read; `publish` reads it.

    Raises DataError if the data is missing, RunError if another process trains the run or the
    training diverges, TeacherError for a teacher that cannot be used, and ExportError.
    """
    arrays = load(run.dataset)
    training, validation = arrays.split(run.recipe.validation)
    with claimed(run.folder):
        fit(run, training, validation)
        return _complete(run, arrays, validation, read_history(run.folder))


def fit(run: Run, training: tuple[Images, Labels], validation: tuple[Images, Labels]) -> None:
    """Train the missing epochs of `run` and save its best weights in its folder."""
    recipe, history = run.recipe, read_history(run.folder)
    over = len(history) >= recipe.epochs or patience_is_over(history, recipe.patience)
    if not over or not hardware_of(run.folder):
        note_hardware(run.folder, backend_name(), hardware())
    if over and not has_tail(run.folder):
        return
    keras.utils.set_random_seed(recipe.seed)
    network = build_network(run)
    whiten(network, training[0])
    model = fast_clone(network, recipe.precision, recipe.batch_norm_momentum)
    steps = -(-len(training[0]) // recipe.batch_size)  # rounded up
    learning = build_learning(run, steps)
    model.compile(learning.optimizer, learning.loss, metrics=[learning.accuracy])
    learning.optimizer.build(model.trainable_variables)
    if history:
        model.load_weights(checkpoint_path(run.folder, len(history)))
    batches = _batches(run, training, learning)
    if not over:
        with interrupted_between_steps() as interruption:
            model.fit(
                batches,
                epochs=recipe.epochs,
                initial_epoch=len(history),
                validation_data=ValidationBatches(
                    *validation, batches.classes, lambda labels: learning.targets(labels, None)
                ),
                callbacks=[
                    EpochStarter(batches, recipe.seed),
                    EpochKeeper(run, history, network),
                    Stopper(history, recipe.patience),
                    TrainingProgress(recipe.epochs, steps, len(history)),
                    interruption,
                ],
                shuffle=False,
                verbose=0,
            )
    if recipe.average:
        # From the saved weights and the seed alone: a resumed training gets the same result.
        model.set_weights(tail_mean(run.folder, len(history), recipe.average))
        start_epoch(model, batches, recipe.seed, len(history))
        measure_batch_norm(model, batches)
        keep_best(run.folder, network, model)


def _batches(run: Run, training: tuple[Images, Labels], learning: Learning) -> TrainingBatches:
    return TrainingBatches(
        *(*training, len(dataset(run.dataset).labels)),
        batch_size=run.recipe.batch_size,
        seed=run.recipe.seed,
        augmentations=run.recipe.augment,
        targets=learning.targets,
        loss_weights=learning.loss_weights,
        teach=teacher(run.recipe, run.dataset),
    )


def _complete(
    run: Run, arrays: Arrays, validation: tuple[Images, Labels], history: History
) -> Card:
    """Write the files of the model into the run folder: both formats, the figures and the card."""
    network = build_network(run)
    network.load_weights(run.folder / BEST)
    round_weights(network)  # first, so that all scores are those of the rounded weights
    work = multiply_adds(network)
    if run.recipe.flip_average:
        network, work = flip_average(network), 2 * work
    network.save(run.folder / KERAS_MODEL)  # not compiled, so without optimizer state
    compact_keras(run.folder / KERAS_MODEL)
    images, labels = validation
    logits = keras_logits(run.folder, images)
    export(run.folder)
    calibration = calibrate(logits, validation, build_learning(run, 1).outputs)
    agreement(logits, onnx_logits(run.folder, images), calibration.temperature).check()
    data, scores = dataset(run.dataset), score(logits, labels)
    taught = teachers_of(run.recipe, run.dataset)
    card = Card(
        dataset=run.dataset,
        architecture=run.architecture,
        rule=run.rule,
        version=1,
        default=True,
        labels=data.labels,
        input=image_input(run),
        parameters=network.count_params(),
        multiply_adds=work,
        calibration=calibration,
        validation=scores,
        test=None,
        control=None,
        training=_training(run, arrays, history),
        files=checksums(run.folder),
        distillation=Distillation(taught) if taught else None,
    )
    draw_curves(history, card.name, run.folder / "curves.png")
    title = f"{card.name}: {scores.accuracy:.2%} of {scores.images} validation images"
    draw_confusion(scores, data.labels, title, run.folder / "confusion.png")
    write_card(run.folder, card)
    finish_run(run)
    return card


def _training(run: Run, arrays: Arrays, history: History) -> Training:
    backend, hardware_names = trained_on(run.folder)
    return Training(
        command=run.command,
        recipe=run.recipe.as_dict(),
        seed=run.recipe.seed,
        epochs=len(history),
        best_epoch=kept_epoch(history, run.recipe),
        seconds=round(sum(row["seconds"] for row in history), 1),
        hardware=hardware_names,
        backend=backend,
        data_sha256=arrays.sha256(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
