"""The schemas of requests and answers, for Swagger. Answers are not marshalled through them."""

import copy
from typing import Any

from flask_restx import Model, fields


class File(fields.Raw):
    """Swagger 2.0's type of an answer that is not JSON."""

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


# Arguments that several fields have in common.
DIGITS = [str(digit) for digit in range(10)]
_INTERVAL = {"min_items": 2, "max_items": 2}

error = Model(
    "Error",
    {
        "message": fields.String(
            description="What was wrong, what was expected and what to do.", required=True
        ),
        "code": _text("A short name of the error, for programs.", "unknown_rule"),
        "index": fields.Integer(
            description="The number of the image that caused the error, counted from 0.",
            example=0,
        ),
        "filename": fields.String(description="The file name of that image.", example="seven.png"),
    },
)

protocol_error = Model(
    "ProtocolError",
    {
        "error": fields.String(
            description="What was wrong, what was expected and what to do. Clients of /v1 and /v2 "
            "read this key.",
            required=True,
        )
    },
)

candidate = Model(
    "Candidate",
    {
        "label": _text("The class.", "7"),
        "index": _whole("The index of the class in the card's labels.", 7, min=0),
        "probability": _share("Calibrated probability of the class.", 0.998),
    },
)

digits = Model(
    "Digits",
    {
        "text": _text("The digits from left to right.", "10"),
        "probabilities": _list(
            fields.Float(min=0, max=1),
            "The calibrated probability of each digit.",
            [0.999, 0.998],
        ),
    },
)

_WARNINGS = fields.List(
    fields.String,
    description="Reasons to doubt the answer, if there are any: the image has several digits.",
    example=["several marks: 2"],
)

_PREDICTION = {
    "label": _text("The most probable class.", "7"),
    "probability": _share(
        "Calibrated probability: of 100 answers with 0.9, about 90 are right.", 0.998
    ),
    "top": _list(fields.Nested(candidate), "The most probable classes, the best first."),
    "in_distribution": fields.Boolean(
        description="False if the image is unlike all the training data. Its label then means "
        "little.",
        example=True,
        required=True,
    ),
    "preprocessing": _list(
        fields.String,
        "What was done to the image, in order. If the image was read in several ways, the first "
        "entry says which reading was kept.",
        ["inverted (dark ink on light paper)", "cropped to the ink"],
    ),
    "warnings": _WARNINGS,
    "digits": fields.Nested(
        digits,
        description="The digits that stand side by side. Only with `digits=several`.",
        allow_null=False,
    ),
    "filename": fields.String(description="The caller's name of the file.", example="seven.png"),
    "prepared": fields.String(
        description="The image that the network received: PNG in base64. Only with `prepared=true`."
    ),
    "version": fields.Integer(
        description="The version that answered about this image, if it is the challenger.",
    ),
    "prediction_id": fields.String(
        description="For a vote by POST /api/feedback. Only if the service asks for votes."
    ),
}
prediction = Model("Prediction", _PREDICTION)


def _optional(field: Any) -> Any:
    optional = copy.copy(field)
    optional.required = False
    return optional


# Swagger 2.0 has no alternatives, so every field is optional here.
outcome = Model(
    "PredictionOrError",
    {
        **{name: _optional(field) for name, field in _PREDICTION.items()},
        "error": fields.Nested(
            error,
            description="Why the image has no prediction. Only with `partial=true`; then there is "
            "no other field except `filename`.",
        ),
    },
)

_ANSWERING = {
    "model": _text("<dataset>-<architecture>-<rule>.", "mnist-lenet-metaplastic"),
    "rule": _text("The learning rule that the model was trained with.", "metaplastic"),
    "version": _whole("The version of the model.", 1),
}

classification = Model(
    "Classification",
    {
        **_ANSWERING,
        "predictions": _list(
            fields.Nested(outcome),
            "One entry for each image, in their order: a prediction, or an error with "
            "`partial=true`.",
        ),
    },
)

comparison_row = Model(
    "ComparisonRow",
    {
        "architecture": _text("The architecture of the network.", "lenet"),
        **_ANSWERING,
        "prediction": _object(prediction, "The prediction, as the model's endpoint answers it."),
        "milliseconds": _number("The time of the inference, without preparation.", 0.21, min=0),
        "test_accuracy": fields.Float(
            description="The model's accuracy on the test set, 0..1.", example=0.9957
        ),
    },
)

comparison = Model(
    "Comparison",
    {
        "dataset": _text("The data set that all the models were trained on.", "mnist"),
        "agree": fields.Boolean(
            description="Whether all models give the same label.", example=True, required=True
        ),
        "results": _list(
            fields.Nested(comparison_row), "One entry for each architecture, sorted by name."
        ),
    },
)

explanation = Model(
    "Explanation",
    {
        **_ANSWERING,
        "label": _text("The class that is explained.", "7"),
        "index": _whole("The index of the class in the card's labels.", 7, min=0),
        "probability": _share("Calibrated probability of that class.", 0.998),
        "preprocessing": _list(fields.String, "What was done to the image, in order."),
        "method": _text("The method of the explanation.", "occlusion", enum=["occlusion"]),
        "unit": _text("The unit of `heat`: log-odds to the base 2.", "bits", enum=["bits"]),
        "evaluations": _whole(
            "How often the network was run: once on the whole image, and once for each hidden "
            "patch.",
            290,
            min=1,
        ),
        "heat": _list(
            fields.List(fields.Float),
            "For each row and pixel of the prepared image: how much evidence for the class is lost "
            "if the pixel is hidden. A negative value is evidence against the class.",
            [[0.0, 0.31], [0.12, 2.4]],
        ),
        "prepared": _text("The image that the network received: PNG in base64.", "iVBORw0KGgo..."),
        "warnings": _WARNINGS,
        "filename": fields.String(
            description="The caller's name of the file.", example="seven.png"
        ),
    },
)

epoch = Model(
    "Epoch",
    {
        "epoch": _whole("The number of the epoch, counted from 1.", 1, min=1),
        "accuracy": fields.Float(
            description="Accuracy on the training images, 0..1.", example=0.9512
        ),
        "loss": fields.Float(description="Loss on the training images.", example=0.1623),
        "val_accuracy": fields.Float(
            description="Accuracy on the validation split, 0..1.", example=0.9803
        ),
        "val_loss": fields.Float(description="Loss on the validation split.", example=0.0684),
        "seconds": fields.Float(description="The time that the epoch took.", example=68.4),
    },
)

history = Model(
    "History",
    {
        "model": _text("<dataset>-<architecture>-<rule>.", "mnist-lenet-metaplastic"),
        "epochs": _list(fields.Nested(epoch), "The epochs in their order."),
    },
)

image_input = Model(
    "ImageInput",
    {
        "height": _whole("In pixels.", 28),
        "width": _whole("In pixels.", 28),
        "channels": _whole("1 for grey, 3 for RGB.", 1),
    },
)

_RUNS = _text(
    "The file that runs: model.int8.onnx (8-bit integers) if the model has one and this processor "
    "has the instructions; else model.onnx.",
    "model.onnx",
    enum=["model.onnx", "model.int8.onnx"],
)

model_row = Model(
    "ModelRow",
    {
        "model": _text("<dataset>-<architecture>-<rule>.", "mnist-lenet-metaplastic"),
        "endpoint": _text("The path of its endpoint.", "/api/mnist/lenet"),
        "dataset": _text("The data set that the model was trained on.", "mnist"),
        "architecture": _text("The architecture of the network.", "lenet"),
        "rule": _text("The learning rule.", "metaplastic"),
        "version": _whole("A whole number; newer versions are higher.", 1),
        "default": fields.Boolean(
            description="Whether the endpoint uses this model by default.",
            example=True,
            required=True,
        ),
        "labels": _list(fields.String, "The classes, in their order.", DIGITS),
        "input": _object(image_input, "The image that the network takes."),
        "parameters": _whole("The number of weights of the network.", 194654),
        "multiply_adds": _whole("The multiply-adds of the network for one image.", 4622120),
        "runs": _RUNS,
        "accuracy": fields.Float(
            description="Accuracy of the file that runs, on the test set, 0..1.", example=0.9957
        ),
        "accuracy_interval": fields.List(
            fields.Float,
            description="The 95 % interval of the accuracy (Wilson).",
            example=[0.9942, 0.9968],
            **_INTERVAL,
        ),
    },
)

_UNAVAILABLE = _list(
    fields.String,
    "Folders of models that cannot be served. The log says why.",
    ["mnist/lenet/metaplastic/1"],
)

model_list = Model(
    "ModelList",
    {
        "models": _list(fields.Nested(model_row), "Every rule and version of every endpoint."),
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
        "mean": _list(fields.Float, "For each channel; the model subtracts it.", [0.1307]),
        "std": _list(fields.Float, "For each channel; the model divides by it.", [0.3081]),
    },
)

calibration = Model(
    "Calibration",
    {
        "temperature": _number("Probabilities are softmax(outputs / temperature).", 1.2),
        "ece_before": _number("Expected calibration error at temperature 1.", 0.01),
        "ece_after": _number("Expected calibration error at this temperature.", 0.005),
        "energy_threshold": _number(
            "An image with a lower energy score is unlike the training data.", 6.4
        ),
        "energy_temperature": _number(
            "The energy score is T * logsumexp(outputs / T) with this T.", 1.2
        ),
        "outputs": _text(
            "The network's outputs: logits, or reward estimates after training with brainprop.",
            "logits",
        ),
        "least_contrast": _number(
            "An image with a lower standard deviation of its pixels, in 0..1, is unlike the "
            "training data.",
            0.12,
        ),
    },
)

scores = Model(
    "Scores",
    {
        "images": _whole("The number of images.", 10000),
        "accuracy": _share("The share of right answers.", 0.9957),
        "interval": _list(
            fields.Float,
            "The 95 % interval of the accuracy (Wilson).",
            [0.9942, 0.9968],
            **_INTERVAL,
        ),
        "per_class": _list(fields.Float, "The share of right answers for each true class."),
        "confusion": _list(
            fields.List(fields.Integer), "Numbers of images: [true class][predicted class]."
        ),
    },
)

int8 = Model(
    "Int8",
    {
        "calibration": _object(calibration, "The calibration of model.int8.onnx."),
        "validation_accuracy": _share("Accuracy on the validation split.", 0.9372),
        "test_accuracy": fields.Float(description="Accuracy on the test set.", example=0.9365),
        "test_interval": fields.List(
            fields.Float,
            description="The 95 % interval of the test accuracy (Wilson).",
            example=[0.9316, 0.9411],
            **_INTERVAL,
        ),
        "changed": _share("The share of images that model.onnx answers otherwise.", 0.0043),
    },
)

baseline = Model(
    "Baseline",
    {
        "rule": _text("The learning rule of the baseline.", "backprop"),
        "seed": _whole("The seed of the model and of its baseline.", 0),
        "validation_accuracy": _share("Of the baseline.", 0.9938),
        "test_accuracy": _share("Of the baseline.", 0.9958),
        "test_interval": _list(
            fields.Float,
            "The 95 % interval of the baseline's test accuracy (Wilson).",
            [0.9943, 0.9969],
            **_INTERVAL,
        ),
    },
)

teacher = Model(
    "Teacher",
    {
        "name": _text(
            "The name of a model whose soft labels this model was trained with.",
            "cifar10-vgg-metaplastic",
        ),
        "version": _whole("The version of the teacher.", 1),
        "sha256": _text("Of the teacher's model.keras.", "9f86d081884c7d659a2feaa0c55ad015..."),
        "validation_accuracy": _share("Of the teacher.", 0.9338),
        "test_accuracy": fields.Float(description="Of the teacher, if known.", example=0.9328),
    },
)

distillation = Model(
    "Distillation",
    {
        "teachers": _list(fields.Nested(teacher), "The mean of their soft labels was used."),
        "without": fields.Nested(baseline, description="The same training without the teachers."),
    },
)

corrupted = Model(
    "Corrupted",
    {
        "severity": _whole("The severity of the corruptions, from 1 to 5.", 3),
        "images": _whole("The number of test images for each corruption.", 2000),
        "accuracy": _share("The mean accuracy over the corruptions.", 0.83),
        "by_corruption": fields.Raw(
            description="The accuracy for each corruption.", required=True, example={"fog": 0.91}
        ),
        "wrong_auroc": fields.Float(
            description="The probability that a wrong answer has a lower energy score than a right "
            "one. null if all answers are right or all are wrong.",
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
            "The command of the training. `train --like MODEL` repeats it with the same recipe.",
            "python -m models train mnist lenet",
        ),
        "recipe": fields.Raw(
            description="The hyperparameters.",
            required=True,
            example={"epochs": 20, "batch_size": 128},
        ),
        "seed": _whole("The seed of all random numbers.", 0),
        "epochs": _whole("The number of trained epochs.", 20),
        "best_epoch": _whole("The epoch whose weights were kept, counted from 1.", 18),
        "seconds": _number("The time that the training took.", 1367.3),
        "hardware": _text("The hardware of the training.", "2 cores"),
        "backend": _text("The backend of Keras.", "tensorflow"),
        "data_sha256": _text("Of the data set's arrays.", "731c5ac602752760c8e48fbffcf8c3b8..."),
        "finished": _text("The time of its end: ISO 8601, UTC.", "2026-11-21T12:00:00Z"),
    },
)

card = Model(
    "Card",
    {
        "dataset": _text("The data set that the model was trained on.", "mnist"),
        "architecture": _text("The architecture of the network.", "lenet"),
        "rule": _text("The learning rule.", "metaplastic"),
        "version": _whole("A whole number; newer versions are higher.", 1),
        "default": fields.Boolean(
            description="Whether its rule is the endpoint's default.", example=True, required=True
        ),
        "labels": _list(fields.String, "The classes, in their order.", DIGITS),
        "input": _object(card_input, "The image that the network takes."),
        "parameters": _whole("The number of weights of the network.", 194654),
        "multiply_adds": _whole("The multiply-adds of the network for one image.", 4622120),
        "calibration": _object(calibration, "Fitted on the validation split."),
        "validation": _object(scores, "On the validation split, by which all choices were made."),
        "test": fields.Nested(
            scores, description="On the test set, which was read once, at the publication."
        ),
        "control": fields.Nested(
            baseline,
            description="The baseline: the same seed, data order and recipe, with another rule.",
        ),
        "training": _object(training, "How the weights were trained."),
        "files": fields.Raw(
            description="SHA-256 of each file of the model.",
            required=True,
            example={"model.onnx": "9f86d081884c7d659a2feaa0c55ad015..."},
        ),
        "distillation": fields.Nested(
            distillation, description="The teachers whose soft labels were used."
        ),
        "corrupted": fields.Nested(corrupted, description="Scores on corrupted test images."),
        "int8": fields.Nested(int8, description="Scores of model.int8.onnx, if there is one."),
    },
)

rule = Model(
    "Rule",
    {
        "rule": _text("A value of `?rule=`; the first one is the default.", "metaplastic"),
        "versions": _list(
            fields.Integer, "Values of `?version=`: the default, then the newest first.", [1]
        ),
    },
)

description = Model(
    "Description",
    {
        "endpoint": _text("The path of the endpoint.", "/api/mnist/lenet"),
        "model": _text("<dataset>-<architecture>-<rule>.", "mnist-lenet-metaplastic"),
        "rules": _list(fields.Nested(rule), "The rules and versions of the endpoint."),
        "samples": _list(fields.String, "Values of `sample`.", ["eight", "five"]),
        "runs": _RUNS,
        "card": _object(card, "The model's card."),
    },
)

_NAME = _text("<dataset>-<architecture>-<rule>.", "mnist-lenet-metaplastic")

tensor = Model(
    "Tensor",
    {
        "name": _text("The tensor's name in requests and answers.", "images"),
        "data_type": _text("The type of its values.", "TYPE_FP32"),
        "format": fields.String(description="The order of the axes.", example="FORMAT_NHWC"),
        "dims": _list(fields.Integer, "Its shape for one image.", [28, 28, 1]),
        "reshape": fields.Raw(
            description="Its shape if that is not `dims`.", example={"shape": []}
        ),
    },
)

instances = Model(
    "Instances",
    {
        "name": _NAME,
        "kind": _text("The kind of processor.", "KIND_CPU", enum=["KIND_CPU"]),
        "count": _whole("The number of requests answered at the same time.", 2, min=1),
    },
)

configuration = Model(
    "Configuration",
    {
        "name": _NAME,
        "platform": _text("The software that runs the model.", "onnxruntime_onnx"),
        "backend": _text("The short name of the platform.", "onnxruntime"),
        "version_policy": fields.Raw(
            description="Which versions are served: all.", required=True, example={"all": {}}
        ),
        "max_batch_size": _whole("The largest number of images in one request.", 128, min=1),
        "input": _list(fields.Nested(tensor), "The tensor that the model takes."),
        "output": _list(fields.Nested(tensor), "The tensors that the model answers with."),
        "instance_group": _list(fields.Nested(instances), "The workers."),
        "default_model_filename": _text("The name of the file that runs.", "model.onnx"),
    },
)

duration = Model(
    "Duration",
    {
        "count": _whole("The number of times.", 64, min=0),
        "ns": _whole("The total time in nanoseconds.", 41200000, min=0),
    },
)

_PARTS = {
    "success": "Requests that were answered.",
    "fail": "Requests that ended with an error after their body was read.",
    "queue": "Waiting for a worker. This row and the rows below include failed requests.",
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
        "version": _text("A whole number; newer versions are higher.", "3"),
        "last_inference": _whole(
            "Milliseconds since 1970, rounded down to a second; 0 for never.", 1795860000000, min=0
        ),
        "inference_count": _whole("The number of classified images.", 64, min=0),
        "execution_count": _whole("Runs of the network, on up to 16 images each.", 4, min=0),
        "inference_stats": _object(inference_stats, "Times of requests and of their stages."),
        "batch_stats": _list(fields.Raw, "Always empty: batch sizes are not counted.", []),
    },
)

statistics = Model(
    "Statistics",
    {"model_stats": _list(fields.Nested(model_stats), "One entry for each model and version.")},
)

live = Model("Live", {"status": _text("Always this.", "live", enum=["live"])})

ready = Model(
    "Ready",
    {
        "status": _text("Always this.", "ready", enum=["ready"]),
        "models": _whole("The number of models that are served.", 2),
        "unavailable": _UNAVAILABLE,
    },
)

PNG = File()

# Every schema that Swagger lists. A schema that is missing here cannot be referred to.
_MODELS = (
    error,
    protocol_error,
    candidate,
    digits,
    prediction,
    outcome,
    classification,
    comparison_row,
    comparison,
    explanation,
    epoch,
    history,
    image_input,
    model_row,
    model_list,
    card_input,
    calibration,
    scores,
    int8,
    baseline,
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
    400: "The request, a parameter or an image cannot be read.",
    404: "There is no such model or picture. The message lists the existing ones.",
    408: "The request took too long to arrive.",
    413: "Too many bytes, pixels or images, or too much work to decode them.",
    415: "Not an image, or an unknown content type.",
    422: "The image shows nothing that can be classified, for example a blank page.",
    500: "A fault of the service.",
    503: "Too busy, or not ready. Try again after the seconds in Retry-After.",
}

CLASSIFICATION_ERRORS = (400, 404, 408, 413, 415, 422, 500, 503)


def register(api: Any) -> None:
    """Add the schemas to `api`."""
    for model in _MODELS:
        api.models[model.name] = model


def responses(
    success: dict[int, tuple[str, Any]], *errors: int, shape: Any = error
) -> dict[int, tuple[str, Any]]:
    """Return Swagger's responses of an operation: `success`, and the `errors` in their `shape`."""
    return success | {status: (_ERRORS[status], shape) for status in errors}
