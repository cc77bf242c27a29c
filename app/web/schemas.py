"""What the answers look like, for Swagger. Nothing is marshalled through these models."""

import copy
from typing import Any

from flask_restx import Model, fields


class File(fields.Raw):
    """Swagger 2.0's word for an answer that is not JSON."""

    __schema_type__ = "file"


def _text(description: str, example: str, **more: Any) -> Any:
    return fields.String(description=description, example=example, required=True, **more)


def _number(description: str, example: float, **more: Any) -> Any:
    return fields.Float(description=description, example=example, required=True, **more)


def _whole(description: str, example: int, **more: Any) -> Any:
    return fields.Integer(description=description, example=example, required=True, **more)


def _share(description: str, example: float) -> Any:
    return _number(description, example, min=0, max=1)


def _list(of: Any, description: str, example: Any = None, **more: Any) -> Any:
    return fields.List(of, description=description, example=example, required=True, **more)


def _object(model: Any, description: str) -> Any:
    return fields.Nested(model, description=description, required=True)


DIGITS = [str(digit) for digit in range(10)]
_INTERVAL = {"min_items": 2, "max_items": 2}

error = Model(
    "Error",
    {
        "message": _text(
            "What was wrong, what was expected and what to do.",
            "mnist/lenet has no rule 'none'; it has: metaplastic, backprop.",
        ),
        "code": _text("The same for programs.", "unknown_rule"),
        "index": fields.Integer(
            description="Which image of the request, counted from 0, where one is to blame.",
            example=0,
        ),
        "filename": fields.String(description="Its file name.", example="seven.png"),
    },
)

protocol_error = Model(
    "ProtocolError",
    {
        "error": _text(
            "What was wrong, what was expected and what to do, as clients of /v1 and /v2 read it.",
            "There is no model 'x'; there are: mnist-lenet-metaplastic.",
        )
    },
)

candidate = Model(
    "Candidate",
    {
        "label": _text("The class.", "7"),
        "index": _whole("Its place in the card's labels.", 7, min=0),
        "probability": _share("Calibrated.", 0.998),
    },
)

digits = Model(
    "Digits",
    {
        "text": _text("From left to right.", "10"),
        "probabilities": _list(
            fields.Float(min=0, max=1), "Of each digit, calibrated.", [0.999, 0.998]
        ),
    },
)

_WARNINGS = fields.List(
    fields.String,
    description="What makes the answer doubtful, where anything does: the image holds more digits "
    "than one.",
    example=["several marks: 2"],
)

_PREDICTION = {
    "label": _text("The most probable class.", "7"),
    "probability": _share("Calibrated: of 100 answers at 0.9, about 90 are right.", 0.998),
    "top": _list(fields.Nested(candidate), "The most probable classes, best first."),
    "in_distribution": fields.Boolean(
        description="False where the image is unlike everything the model was trained on; "
        "its label then means little.",
        example=True,
        required=True,
    ),
    "preprocessing": _list(
        fields.String,
        "What was done to the image, in order. Where it was read in several ways, the first "
        "entry says which one was kept.",
        ["inverted (dark ink on light paper)", "cropped to the ink"],
    ),
    "warnings": _WARNINGS,
    "digits": fields.Nested(
        digits,
        description="The digits that stand side by side; with `digits=several` only.",
        allow_null=False,
    ),
    "filename": fields.String(description="As the caller named it.", example="seven.png"),
    "prepared": fields.String(
        description="PNG in base64, the image that the network saw; with `prepared=true` only."
    ),
}
prediction = Model("Prediction", _PREDICTION)


def _optional(field: Any) -> Any:
    optional = copy.copy(field)
    optional.required = False
    return optional


# Swagger 2.0 cannot say "this or that": everything is optional here.
outcome = Model(
    "PredictionOrError",
    {
        **{name: _optional(field) for name, field in _PREDICTION.items()},
        "error": fields.Nested(
            error,
            description="Why the image has no prediction; with `partial=true` only, and then there "
            "is nothing else but `filename`.",
        ),
    },
)

_ANSWERING = {
    "model": _text("<dataset>-<architecture>-<rule>.", "mnist-lenet-metaplastic"),
    "rule": _text("The learning rule that it was trained with.", "metaplastic"),
    "version": _whole("Of the model.", 1),
}

classification = Model(
    "Classification",
    {
        **_ANSWERING,
        "predictions": _list(
            fields.Nested(outcome),
            "One for each image, in their order: a prediction, or with `partial=true` an error.",
        ),
    },
)

result = Model(
    "Result",
    {
        "architecture": _text("The network.", "lenet"),
        **_ANSWERING,
        "prediction": _object(prediction, "As the architecture's own endpoint answers it."),
        "milliseconds": _number("That its inference took, without preparation.", 0.21, min=0),
        "test_accuracy": fields.Float(description="On the test set, 0..1.", example=0.9957),
    },
)

comparison = Model(
    "Comparison",
    {
        "dataset": _text("What all the models were trained on.", "mnist"),
        "agree": fields.Boolean(
            description="Whether all of them give the same label.", example=True, required=True
        ),
        "results": _list(fields.Nested(result), "One for each architecture, by its name."),
    },
)

explanation = Model(
    "Explanation",
    {
        **_ANSWERING,
        "label": _text("The class that is explained.", "7"),
        "index": _whole("Its place in the card's labels.", 7, min=0),
        "probability": _share("Of that class, calibrated.", 0.998),
        "preprocessing": _list(fields.String, "What was done to the image, in order."),
        "method": _text("How it was found.", "occlusion", enum=["occlusion"]),
        "unit": _text("Of the heat: log-odds to the base 2.", "bits", enum=["bits"]),
        "evaluations": _whole(
            "How often the network was asked: about the whole, and with each patch hidden.",
            290,
            min=1,
        ),
        "heat": _list(
            fields.List(fields.Float),
            "For each row of the network's image, each pixel: the evidence for the class that goes "
            "where it is hidden; below 0 it speaks against the class.",
            [[0.0, 0.31], [0.12, 2.4]],
        ),
        "prepared": _text("PNG in base64: the image that the network saw.", "iVBORw0KGgo..."),
        "warnings": _WARNINGS,
        "filename": fields.String(description="As the caller named it.", example="seven.png"),
    },
)

epoch = Model(
    "Epoch",
    {
        "epoch": _whole("Counted from 1.", 1, min=1),
        "accuracy": fields.Float(description="On the training images, 0..1.", example=0.9512),
        "loss": fields.Float(description="On the training images.", example=0.1623),
        "val_accuracy": fields.Float(description="On the validation split.", example=0.9803),
        "val_loss": fields.Float(description="On the validation split.", example=0.0684),
        "seconds": fields.Float(description="That the epoch took.", example=68.4),
    },
)

history = Model(
    "History",
    {
        "model": _text("<dataset>-<architecture>-<rule>.", "mnist-lenet-metaplastic"),
        "epochs": _list(fields.Nested(epoch), "In their order."),
    },
)

image_input = Model(
    "ImageInput",
    {
        "height": _whole("Pixels.", 28),
        "width": _whole("Pixels.", 28),
        "channels": _whole("1 is grey, 3 is RGB.", 1),
    },
)

shelf_row = Model(
    "ShelfRow",
    {
        "model": _text("<dataset>-<architecture>-<rule>.", "mnist-lenet-metaplastic"),
        "endpoint": _text("Where to reach it.", "/api/mnist/lenet"),
        "dataset": _text("What it was trained on.", "mnist"),
        "architecture": _text("The network.", "lenet"),
        "rule": _text("The learning rule.", "metaplastic"),
        "version": _whole("Newer is higher.", 1),
        "default": fields.Boolean(
            description="Whether its endpoint uses it unless asked otherwise.",
            example=True,
            required=True,
        ),
        "labels": _list(fields.String, "The classes, in their order.", DIGITS),
        "input": _object(image_input, "What the network sees."),
        "parameters": _whole("Weights of the network.", 194654),
        "multiply_adds": _whole("For one image.", 4622120),
        "accuracy": fields.Float(description="On the test set, 0..1.", example=0.9957),
        "accuracy_interval": fields.List(
            fields.Float, description="95 %, Wilson.", example=[0.9942, 0.9968], **_INTERVAL
        ),
    },
)

_UNAVAILABLE = _list(
    fields.String,
    "Folders of models that cannot be served; the log says why.",
    ["mnist/lenet/metaplastic/1"],
)

shelf = Model(
    "Shelf",
    {
        "models": _list(fields.Nested(shelf_row), "Every rule and version of every endpoint."),
        "unavailable": _UNAVAILABLE,
    },
)

card_input = image_input.clone(
    "CardInput",
    {
        "style": _text("How images are prepared.", "digit", enum=["digit", "garment", "photo"]),
        "resize": _text(
            "How a photo gets the proportions.", "fit", enum=["fit", "crop", "pad", "stretch"]
        ),
        "mean": _list(fields.Float, "Per channel; subtracted inside the model.", [0.1307]),
        "std": _list(fields.Float, "Per channel; divided by inside the model.", [0.3081]),
    },
)

calibration = Model(
    "Calibration",
    {
        "temperature": _number("Probabilities are softmax(outputs / temperature).", 1.2),
        "ece_before": _number("Expected calibration error at temperature 1.", 0.01),
        "ece_after": _number("Expected calibration error at this temperature.", 0.005),
        "energy_threshold": _number("An energy score below it: unlike the training data.", 6.4),
        "energy_temperature": _number("The score is T * logsumexp(outputs / T) at this T.", 1.2),
        "outputs": _text(
            "What the network answers: logits, or after brainprop reward estimates.", "logits"
        ),
        "least_contrast": _number(
            "An image whose pixels deviate less from their mean, in 0..1: unlike the training "
            "data.",
            0.12,
        ),
    },
)

scores = Model(
    "Scores",
    {
        "images": _whole("How many were classified.", 10000),
        "accuracy": _share("The share that was right.", 0.9957),
        "interval": _list(fields.Float, "95 %, Wilson.", [0.9942, 0.9968], **_INTERVAL),
        "per_class": _list(fields.Float, "The share of each true class that was recognised."),
        "confusion": _list(fields.List(fields.Integer), "[true class][predicted class]."),
    },
)

control = Model(
    "Control",
    {
        "rule": _text("Of a twin with the same seed, data order and recipe.", "backprop"),
        "seed": _whole("Of both.", 0),
        "validation_accuracy": _share("Of the twin.", 0.9938),
        "test_accuracy": _share("Of the twin.", 0.9958),
        "test_interval": _list(fields.Float, "95 %, Wilson.", [0.9943, 0.9969], **_INTERVAL),
    },
)

teacher = Model(
    "Teacher",
    {
        "name": _text("Of a model whose soft answers taught this one.", "cifar10-vgg-metaplastic"),
        "version": _whole("Of that model.", 1),
        "sha256": _text("Of its model.keras.", "9f86d081884c7d659a2feaa0c55ad015..."),
        "validation_accuracy": _share("Of the teacher.", 0.9338),
        "test_accuracy": fields.Float(description="Of the teacher, if known.", example=0.9328),
    },
)

distillation = Model(
    "Distillation",
    {
        "teachers": _list(fields.Nested(teacher), "They answered together."),
        "without": fields.Nested(control, description="The same training without its teachers."),
    },
)

corrupted = Model(
    "Corrupted",
    {
        "severity": _whole("Of the corruptions, 1 to 5.", 3),
        "images": _whole("Test images under each corruption.", 2000),
        "accuracy": _share("Mean over the corruptions.", 0.83),
        "by_corruption": fields.Raw(
            description="Accuracy by corruption.", required=True, example={"fog": 0.91}
        ),
        "wrong_auroc": fields.Float(
            description="The chance that of a wrong and a right answer the wrong one has the "
            "lower energy score; null where all are the one or the other.",
            example=0.9,
            min=0,
            max=1,
        ),
    },
)

training = Model(
    "Training",
    {
        "command": _text(
            "What trained it; `train --like MODEL` does so by this very recipe.",
            "python -m models train mnist lenet",
        ),
        "recipe": fields.Raw(
            description="Hyperparameters.", required=True, example={"epochs": 20, "batch_size": 128}
        ),
        "seed": _whole("Of everything random.", 0),
        "epochs": _whole("Trained.", 20),
        "best_epoch": _whole("The one whose weights were kept, counted from 1.", 18),
        "seconds": _number("How long it took.", 1367.3),
        "hardware": _text("On what.", "2 cores"),
        "backend": _text("Of Keras.", "tensorflow"),
        "data_sha256": _text("Of the data set's arrays.", "731c5ac602752760c8e48fbffcf8c3b8..."),
        "finished": _text("ISO 8601, UTC.", "2026-11-21T12:00:00Z"),
    },
)

card = Model(
    "Card",
    {
        "dataset": _text("What it was trained on.", "mnist"),
        "architecture": _text("The network.", "lenet"),
        "rule": _text("The learning rule.", "metaplastic"),
        "version": _whole("Newer is higher.", 1),
        "default": fields.Boolean(
            description="Whether its rule is the endpoint's default.", example=True, required=True
        ),
        "labels": _list(fields.String, "The classes, in their order.", DIGITS),
        "input": _object(card_input, "What the network takes."),
        "parameters": _whole("Weights of the network.", 194654),
        "multiply_adds": _whole("For one image.", 4622120),
        "calibration": _object(calibration, "Fitted on the validation split."),
        "validation": _object(scores, "On the validation split, which decided everything."),
        "test": fields.Nested(scores, description="On the test set, which was read once."),
        "control": fields.Nested(control, description="What its plain twin reached."),
        "training": _object(training, "Where the weights come from."),
        "files": fields.Raw(
            description="SHA-256 of each file of the model.",
            required=True,
            example={"model.onnx": "9f86d081884c7d659a2feaa0c55ad015..."},
        ),
        "distillation": fields.Nested(distillation, description="What taught it beside labels."),
        "corrupted": fields.Nested(corrupted, description="On spoilt test images."),
    },
)

rule = Model(
    "Rule",
    {
        "rule": _text("What `?rule=` takes; the first is the default.", "metaplastic"),
        "versions": _list(fields.Integer, "What `?version=` takes, the newest first.", [1]),
    },
)

description = Model(
    "Description",
    {
        "endpoint": _text("Where to classify.", "/api/mnist/lenet"),
        "model": _text("<dataset>-<architecture>-<rule>.", "mnist-lenet-metaplastic"),
        "rules": _list(fields.Nested(rule), "What there is to choose from."),
        "samples": _list(fields.String, "What `sample` takes.", ["eight", "five"]),
        "card": _object(card, "Everything that is known about the model."),
    },
)

_NAME = _text("<dataset>-<architecture>-<rule>.", "mnist-lenet-metaplastic")

tensor = Model(
    "Tensor",
    {
        "name": _text("As requests and answers name it.", "images"),
        "data_type": _text("Of its values.", "TYPE_FP32"),
        "format": fields.String(description="Of an image's axes.", example="FORMAT_NHWC"),
        "dims": _list(fields.Integer, "Its shape for one image.", [28, 28, 1]),
        "reshape": fields.Raw(
            description="Its shape where that is not `dims`.", example={"shape": []}
        ),
    },
)

instances = Model(
    "Instances",
    {
        "name": _NAME,
        "kind": _text("What it runs on.", "KIND_CPU", enum=["KIND_CPU"]),
        "count": _whole("Requests answered at the same time.", 2, min=1),
    },
)

configuration = Model(
    "Configuration",
    {
        "name": _NAME,
        "platform": _text("What runs the model.", "onnxruntime_onnx"),
        "backend": _text("The same by its short name.", "onnxruntime"),
        "version_policy": fields.Raw(
            description="Which versions are served: all.", required=True, example={"all": {}}
        ),
        "max_batch_size": _whole("Images in one request, at most.", 128, min=1),
        "input": _list(fields.Nested(tensor), "What the model takes."),
        "output": _list(fields.Nested(tensor), "What it answers."),
        "instance_group": _list(fields.Nested(instances), "The workers."),
        "default_model_filename": _text("The model's file.", "model.onnx"),
    },
)

duration = Model(
    "Duration",
    {
        "count": _whole("How often it happened.", 64, min=0),
        "ns": _whole("How long it took in all, in nanoseconds.", 41200000, min=0),
    },
)

_PARTS = {
    "success": "Requests that were answered.",
    "fail": "Requests that ended with an error once their body was read.",
    "queue": "Waiting for a worker; this and the following of requests that failed, too.",
    "compute_input": "Reading, decoding and preparing the images.",
    "compute_infer": "Running the network.",
    "compute_output": "Writing the answer, errors included.",
    "cache_hit": "Always 0: there is no cache.",
    "cache_miss": "Always 0.",
}

inference_stats = Model(
    "InferenceStats", {name: _object(duration, meaning) for name, meaning in _PARTS.items()}
)

model_stats = Model(
    "ModelStats",
    {
        "name": _NAME,
        "version": _text("Newer is higher.", "3"),
        "last_inference": _whole(
            "Milliseconds since 1970, of a whole second; 0 for never.", 1795860000000, min=0
        ),
        "inference_count": _whole("Images inferred.", 64, min=0),
        "execution_count": _whole("Runs of the network, on up to 16 images each.", 4, min=0),
        "inference_stats": _object(inference_stats, "Times of requests, and of their parts."),
        "batch_stats": _list(fields.Raw, "Empty: batches are not counted by their size.", []),
    },
)

statistics = Model(
    "Statistics",
    {"model_stats": _list(fields.Nested(model_stats), "One for each model and version.")},
)

live = Model("Live", {"status": _text("Always this.", "live", enum=["live"])})

ready = Model(
    "Ready",
    {
        "status": _text("Always this.", "ready", enum=["ready"]),
        "models": _whole("How many are served.", 2),
        "unavailable": _UNAVAILABLE,
    },
)

PNG = File()

_MODELS = (
    error,
    protocol_error,
    candidate,
    digits,
    prediction,
    outcome,
    classification,
    result,
    comparison,
    explanation,
    epoch,
    history,
    image_input,
    shelf_row,
    shelf,
    card_input,
    calibration,
    scores,
    control,
    teacher,
    distillation,
    corrupted,
    training,
    card,
    rule,
    description,
    tensor,
    instances,
    configuration,
    duration,
    inference_stats,
    model_stats,
    statistics,
    live,
    ready,
)

_ERRORS = {
    400: "The request, a parameter or an image in it cannot be read.",
    404: "There is no such model or picture; the message lists what there is.",
    408: "The request took too long to come.",
    413: "Too large: bytes, pixels, the number of images, or the work they make.",
    415: "Not an image, or not a known way to send one.",
    422: "An image that no class can mean, such as an empty one.",
    500: "The service failed; the fault is its own.",
    503: "Too busy, or not ready to answer: try again after the seconds in Retry-After.",
}

CLASSIFICATION_ERRORS = (400, 404, 408, 413, 415, 422, 500, 503)


def register(api: Any) -> None:
    """Make the models known to `api`."""
    for model in _MODELS:
        api.models[model.name] = model


def responses(
    success: dict[int, tuple[str, Any]], *errors: int, shape: Any = error
) -> dict[int, tuple[str, Any]]:
    """Swagger's answers of an operation: `success`, and errors of a `shape` by their statuses."""
    return success | {status: (_ERRORS[status], shape) for status in errors}
