"""Networks that were trained elsewhere: what is imported, what is asked, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.__main__ import INTERRUPTED, main
from models.aliases import set_aliases
from models.calibration import softmax
from models.cards import CardError, read_card
from models.packaging.conversion import check_archive
from models.packaging.foreign import ForeignError
from models.packaging.running import onnx_answers
from models.publishing.evaluate import evaluate
from models.publishing.importing import MOST_LABELS, Said, import_model, read_labels
from models.scratch import scratch_folder
from tests.models.networks import COLOURS, FLOAT, UINT8, colours, labels, save

PROJECT = Path(__file__).parents[2]
RED = np.zeros((1, 16, 16, 3), np.float32)
RED[..., 0] = 0.8


@pytest.fixture
def names(tmp_path: Path) -> Path:
    return labels(tmp_path / "labels.txt")


@pytest.fixture
def bring(tmp_path: Path, names: Path):
    """Import a file, with what is said about it; return the folder of the version."""

    def bring(model: Path, **said: Any) -> Path:
        known = {"labels": names, "scale": 1 / 255, **said}
        return import_model("test/net", model, Said(**known), tmp_path / "shelf", "a test").folder

    return bring


@pytest.fixture
def refused(tmp_path: Path, bring):
    """Import a file that cannot be, and return the message. The repository is as it was."""

    def refused(model: Path, **said: Any) -> str:
        with pytest.raises(ForeignError) as error:
            bring(model, **said)
        shelf = tmp_path / "shelf"
        assert not shelf.exists() or not any(shelf.iterdir())
        return str(error.value)

    return refused


@pytest.mark.parametrize(
    "made",
    [
        pytest.param({"layout": "NCHW"}, id="channels first"),
        pytest.param({"layout": "NHWC"}, id="channels last"),
        pytest.param({"batch": 1}, id="one image at a time"),
        pytest.param({"batch": 1, "shape": [1, 3]}, id="one image, fixed inside too"),
        pytest.param(
            {"batch": 4, "shape": [4, 3]},
            id="four images, fixed inside too",
            marks=pytest.mark.slow,
        ),
        pytest.param({"ends": ("Softmax",)}, id="probabilities"),
        pytest.param(
            {"ends": ("Softmax", "Log")}, id="logarithms of probabilities", marks=pytest.mark.slow
        ),
        pytest.param(
            {"batch": 1, "shape": [1, 3], "ends": ("Softmax",)},
            id="fixed, probabilities",
            marks=pytest.mark.slow,
        ),
        pytest.param({"kind": TensorProto.FLOAT16}, id="half precision", marks=pytest.mark.slow),
        pytest.param({"kind": TensorProto.DOUBLE}, id="double precision", marks=pytest.mark.slow),
        pytest.param({"opset": 9}, id="old operators", marks=pytest.mark.slow),
    ],
)
def test_what_is_imported_answers_as_the_network_that_came(tmp_path, bring, made):
    folder = bring(colours(tmp_path / "net.onnx", **made))
    card = read_card(folder)
    assert (card.name, card.version, card.rule) == ("test-net-imported", 1, "imported")
    assert (card.input.height, card.input.width, card.input.channels) == (16, 16, 3)
    pictures = np.concatenate([RED, RED[..., ::-1], RED])
    probabilities = softmax(onnx_answers(folder, pictures))
    expected = softmax(np.array([[3.2, 0, 0]]))[0]
    np.testing.assert_allclose(probabilities[0], expected, atol=1e-4)
    np.testing.assert_allclose(probabilities[1], expected[::-1], atol=1e-4)
    ends = made.get("ends", ())
    assert card.imported.outputs == ("probabilities" if ends == ("Softmax",) else "logits")


def test_pixels_are_scaled_shifted_and_turned_as_was_said(tmp_path, bring):
    model = colours(tmp_path / "net.onnx")
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.4)
    folder = bring(model, mean=mean, std=std, bgr=True)
    found = onnx_answers(folder, RED)
    expected = 4 * (np.array([0, 0, 0.8]) - mean) / std  # blue first
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)
    card = read_card(folder)
    assert card.input.mean == (0.3, 0.4, 0.5)  # in RGB, of pixels in 0..1
    assert card.input.std == (0.4, 0.2, 0.1)


def test_a_scale_to_minus_one_and_one_has_its_middle_at_a_half(tmp_path, bring):
    folder = bring(colours(tmp_path / "net.onnx"), scale=1 / 127.5, mean=(1.0,))
    np.testing.assert_allclose(onnx_answers(folder, RED)[0], [2.4, -4, -4], atol=1e-5)
    assert read_card(folder).input.mean == (0.5, 0.5, 0.5)


def test_whole_numbers_reach_a_network_for_bytes_exactly(tmp_path, bring):
    folder = bring(colours(tmp_path / "net.onnx", kind=UINT8, strength=1.0), scale=None)
    every = np.arange(256, dtype=np.float32) / 255
    pictures = np.broadcast_to(every[:, None, None, None], (256, 16, 16, 3))
    found = onnx_answers(folder, np.ascontiguousarray(pictures, np.float32))
    np.testing.assert_array_equal(found[:, 0], np.arange(256))


def test_a_size_that_is_open_is_asked_for_and_taken(tmp_path, bring, refused):
    model = colours(tmp_path / "net.onnx", size="side")
    assert "give --size" in refused(model)
    assert read_card(bring(model, size=(16, 24))).input.width == 24


def test_a_second_import_is_a_second_version(tmp_path, bring):
    model = colours(tmp_path / "net.onnx")
    assert [bring(model).name, bring(model).name] == ["1", "2"]


def test_weights_in_a_file_beside_it_are_read(tmp_path, bring):
    whole = onnx.load(colours(tmp_path / "whole.onnx"))
    onnx.save(
        *(whole, tmp_path / "net.onnx"), save_as_external_data=True, location="w", size_threshold=0
    )
    folder = bring(tmp_path / "net.onnx")
    np.testing.assert_allclose(onnx_answers(folder, RED)[0], [3.2, 0, 0], atol=1e-4)
    assert [path.name for path in sorted(folder.iterdir())] == ["card.json", "model.onnx"]


@pytest.mark.parametrize(
    "place", ["../secret", "/etc/hostname", "link", "absent", "", "a\0b", "x" * 5000]
)
def test_weights_elsewhere_are_not_read(tmp_path, refused, place):
    (tmp_path / "secret").write_bytes(b"\0" * 36)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "link").symlink_to(tmp_path / "secret")
    model = onnx.load(colours(inner / "net.onnx"))
    (weights,) = model.graph.initializer
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=place)
    (inner / "net.onnx").write_bytes(model.SerializeToString())
    assert "no file in its folder" in refused(inner / "net.onnx")


def test_a_network_that_is_a_link_is_read_with_the_weights_beside_the_link(tmp_path, bring):
    whole = onnx.load(colours(tmp_path / "whole.onnx"))
    onnx.save(
        *(whole, tmp_path / "net.onnx"), save_as_external_data=True, location="w", size_threshold=0
    )
    plain = read_card(bring(tmp_path / "net.onnx"))
    (tmp_path / "store").mkdir()
    shutil.move(tmp_path / "net.onnx", tmp_path / "store" / "blob")
    (tmp_path / "net.onnx").symlink_to(tmp_path / "store" / "blob")
    assert read_card(bring(tmp_path / "net.onnx")).imported.sha256 == plain.imported.sha256


def test_weights_hidden_in_an_operator_are_found_too(tmp_path, refused):
    constant = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="/etc/hostname")
    hidden = helper.make_node("Constant", [], ["w"], value=constant)
    inner = helper.make_graph([hidden], "g", [], [])
    model = onnx.load(colours(tmp_path / "net.onnx"))
    model.graph.node.append(
        helper.make_node("If", ["yes"], [], then_branch=inner, else_branch=inner)
    )
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert "/etc/hostname" in refused(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    "where", [{"offset": "-1"}, {"length": "-1"}, {"length": "37"}, {"offset": "x"}]
)
def test_weights_beyond_their_file_are_refused(tmp_path, refused, where):
    (tmp_path / "w").write_bytes(b"\0" * 36)
    model = onnx.load(colours(tmp_path / "net.onnx"))
    (weights,) = model.graph.initializer
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, text in {"location": "w", **where}.items():
        weights.external_data.add(key=key, value=text)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert "are not in w" in refused(tmp_path / "net.onnx")


def test_many_weights_that_share_one_file_count_each_time(tmp_path, refused, monkeypatch):
    monkeypatch.setattr("models.packaging.foreign.MOST_BYTES", 10_000)
    (tmp_path / "w").write_bytes(b"\0" * 4000)
    model = onnx.load(colours(tmp_path / "net.onnx"))
    for number in range(3):
        more = model.graph.initializer.add(name=f"m{number}", data_type=FLOAT, dims=[1000])
        more.data_location = TensorProto.EXTERNAL
        more.external_data.add(key="location", value="w")
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert "the most for a model" in refused(tmp_path / "net.onnx")


def value(name: str, kind: int, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


PIXELS = value("x", FLOAT, ["n", 3, 8, 8])
CLASSES = value("y", FLOAT, ["n", 3])
MEAN = helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
ROOT = [  # of -1 in every picture
    helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
    helper.make_node("Sub", ["m", "m"], ["zero"]),
    helper.make_node("Log", ["zero"], ["y"]),
]
HUGE = [
    helper.make_node(
        *("ConstantOfShape", ["side"], ["huge"]),
        value=numpy_helper.from_array(np.ones(1, np.float32)),
    ),
    helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
    helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
    helper.make_node("Mul", ["m", "sum"], ["y"]),
]
SIDES = numpy_helper.from_array(np.array([100_000, 100_000], np.int64), "side")

MAPS = onnx.ValueInfoProto(name="y")
MAPS.type.sequence_type.elem_type.map_type.key_type = TensorProto.INT64

SECRET = [helper.make_node("Secret", ["x"], ["y"], domain="evil")]

# Its operators, what differs from one input PIXELS and one output CLASSES, and what is said.
BAD: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "two inputs": ([MEAN], {"inputs": [PIXELS, value("z", FLOAT, [1])]}, "one input, found 2"),
    "two outputs": ([MEAN], {"outputs": [CLASSES, CLASSES]}, "one output, found 2"),
    "flat pictures": ([MEAN], {"inputs": [value("x", FLOAT, ["n", 64])]}, "four axes"),
    "text": ([MEAN], {"inputs": [value("x", TensorProto.STRING, [1, 3, 8, 8])]}, "type string"),
    "whole answers": ([MEAN], {"outputs": [value("y", TensorProto.INT64, ["n"])]}, "type int64"),
    "two channel axes": ([MEAN], {"inputs": [value("x", FLOAT, [1, 3, 8, 3])]}, "--layout"),
    "no channel axis": ([MEAN], {"inputs": [value("x", FLOAT, [1, 4, 8, 8])]}, "--layout"),
    "huge pictures": ([MEAN], {"inputs": [value("x", FLOAT, [1, 3, 2000, 8])]}, "at most 1024"),
    "a map for each image": ([MEAN], {"outputs": [MAPS]}, "is no tensor"),
    "an unknown operator": (SECRET, {}, "ONNX Runtime cannot run it"),
    "no numbers": (ROOT, {}, "NaN or infinity"),
    "too much memory": (HUGE, {"stored": [SIDES]}, "ONNX Runtime cannot run it"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_network_that_cannot_be_served_is_refused_in_words(tmp_path, refused, what):
    nodes, other, said = BAD[what]
    parts = {"inputs": [PIXELS], "outputs": [CLASSES], "stored": [], **other}
    assert said in refused(save(tmp_path / "net.onnx", nodes, **parts))


def test_what_is_no_onnx_file_is_refused(tmp_path, refused):
    (tmp_path / "net.onnx").write_text("I am no model, whatever my name says.")
    assert "no ONNX model" in refused(tmp_path / "net.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert "no operators" in refused(tmp_path / "empty.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "expected an ONNX file" in refused(tmp_path / "pipe.onnx")
    assert "does not exist" in refused(tmp_path / "absent.onnx")
    named = colours(tmp_path / "named.onnx")
    named.write_bytes(named.read_bytes().replace(b"means", b"m\xffans"))
    assert "no text in UTF-8" in refused(named)


def test_a_file_that_is_too_large_or_too_old_is_refused(tmp_path, refused, monkeypatch):
    assert "opset 6" in refused(colours(tmp_path / "old.onnx", opset=6))
    monkeypatch.setattr("models.packaging.foreign.MOST_BYTES", 100)
    assert "the most for a model" in refused(colours(tmp_path / "net.onnx"))


def test_a_network_that_takes_too_long_is_ended(tmp_path, refused, monkeypatch):
    monkeypatch.setattr("models.packaging.trial.MOST_SECONDS", 0.01)
    assert "it took more than 0.01 s" in refused(colours(tmp_path / "net.onnx"))


def test_what_a_file_does_not_say_is_asked(tmp_path, refused):
    model = colours(tmp_path / "net.onnx")
    assert "--scale 1/255" in refused(model, scale=None)
    assert "expected 1 or 3 values" in refused(model, mean=(0.5, 0.5))
    for std in (0.0, -1.0, 1e-320, np.nan, np.inf):
        assert "--std: expected numbers from 1e-06 to 1e+06" in refused(model, std=(std,))
    assert "--mean: expected" in refused(model, mean=(1e308,))
    assert "--scale: expected" in refused(model, scale=1e-320, mean=(1.0,))
    assert "no other --size" in refused(model, size=(32, 32))
    assert "have 1 channel" in refused(model, style="digit")
    sigmoids = colours(tmp_path / "sigmoids.onnx", ends=("Sigmoid",))
    assert "--outputs logits" in refused(sigmoids)
    assert "no probabilities" in refused(sigmoids, outputs="probabilities")
    whole = colours(tmp_path / "bytes.onnx", kind=UINT8)
    assert "leave out --scale" in refused(whole)


@pytest.mark.parametrize("name", ["net", "test/", "Test/net", "a/b/c", "../x", "test/compare"])
def test_a_name_that_cannot_be_in_a_url_is_refused(tmp_path, names, name):
    with pytest.raises(ForeignError, match="called"):
        import_model(name, colours(tmp_path / "n.onnx"), Said(names), tmp_path / "shelf", "a test")


def test_labels_are_counted_and_told_apart(tmp_path, refused):
    model = colours(tmp_path / "net.onnx")
    two = labels(tmp_path / "two.txt", ("red", "green"))
    assert "gives 3 numbers for a picture, and" in refused(model, labels=two)
    for lines, problem in (
        (("red", "green", "red"), "line 3 repeats line 1"),
        (("red", "", "blue"), "line 2: expected the name of a class"),
        (("red",), "a line for each class, 2 to"),
        (("red", "gr\x0ceen", "blue"), "line 2: expected the name of a class"),
        (("\u00e9", "e\u0301", "blue"), "line 2 repeats line 1"),  # both are an e with an accent
        (("red", *map(str, range(MOST_LABELS))), "2 to 100000; found 100001"),
    ):
        with pytest.raises(ForeignError, match=problem):
            read_labels(labels(tmp_path / "labels.txt", lines))


def paint(folder: Path, each: int) -> Path:
    """Pictures of nearly one colour, in a folder for each; every tenth is in a wrong one."""
    random = np.random.default_rng(0)
    for place, name in enumerate(COLOURS):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            picture = random.integers(0, 60, (20, 30, 3), np.uint8)
            picture[..., (place + (number % 10 == 0)) % 3] += 150
            Image.fromarray(picture).save(folder / name / f"{number}.png")
    return folder


def test_labelled_pictures_give_accuracy_temperature_and_threshold(tmp_path, bring):
    model = colours(tmp_path / "net.onnx", strength=30)
    plain = read_card(bring(model))
    assert plain.calibration is plain.validation is None
    pictures = paint(tmp_path / "in", 20)
    (pictures / "red" / "broken.png").write_text("no picture")
    card = read_card(bring(model, calibrate=pictures))
    assert card.validation.images == 60
    assert card.validation.accuracy == 0.9
    assert card.validation.interval[0] < 0.9 < card.validation.interval[1]
    assert card.calibration.temperature > 1  # it was too sure
    assert card.calibration.ece_after < card.calibration.ece_before
    assert card.test is None


def test_labelled_pictures_of_other_classes_or_too_few_are_refused(tmp_path, refused):
    model, pictures = colours(tmp_path / "net.onnx"), paint(tmp_path / "in", 3)
    assert "at least 20" in refused(model, calibrate=pictures)
    (pictures / "red").rename(pictures / "purple")
    assert "purple, which is no class" in refused(model, calibrate=pictures)


def test_pictures_that_contradict_the_order_of_the_labels_are_pointed_out(tmp_path, names, capsys):
    model, pictures = colours(tmp_path / "net.onnx"), paint(tmp_path / "in", 10)
    turned = labels(tmp_path / "turned.txt", ("blue", "red", "green"))
    known = ["--scale=1/255", f"--calibrate={pictures}", f"--repository={tmp_path / 'my shelf'}"]
    assert main(["import", "test/net", str(model), f"--labels={turned}", *known]) == 0
    said = capsys.readouterr()
    assert "less often than chance" in said.err
    assert "in the order of its outputs" in said.err
    assert f"METAPLASTIC_WEIGHTS='{tmp_path / 'my shelf'}' python wsgi.py" in said.out


def test_a_class_is_known_by_its_accents_however_they_are_written(tmp_path, bring):
    pictures = paint(tmp_path / "in", 10)
    (pictures / "red").rename(pictures / "rose\u0301")  # as macOS writes it into a zip file
    known = labels(tmp_path / "labels.txt", ("ros\u00e9", "green", "blue"))
    card = read_card(bring(colours(tmp_path / "n.onnx"), calibrate=pictures, labels=known))
    assert card.validation.images == 30


def test_a_network_that_is_imported_twice_over_is_wrapped_twice(tmp_path, bring):
    first = bring(colours(tmp_path / "net.onnx", ends=("Softmax",)))
    again = bring(first / "model.onnx")
    np.testing.assert_allclose(onnx_answers(again, RED), onnx_answers(first, RED), atol=1e-5)


def test_the_commands_for_networks_that_were_trained_here_say_what_they_miss(tmp_path, bring):
    folder = bring(colours(tmp_path / "net.onnx"))
    with pytest.raises(CardError, match="is imported: it has no training"):
        evaluate(folder, read_card(folder))


def test_export_and_learn_name_an_imported_network_as_such(tmp_path, bring, capsys, monkeypatch):
    folder = bring(colours(tmp_path / "net.onnx"))
    assert main(["export", str(folder)]) == 1
    assert "is imported" in capsys.readouterr().err
    monkeypatch.setenv("METAPLASTIC_FEEDBACK", f"sqlite:///{tmp_path / 'votes.db'}")
    assert main(["learn", "test/net", "--repository", str(tmp_path / "shelf")]) == 1
    assert "test/net is imported: only a network that was trained here" in capsys.readouterr().err


@pytest.mark.slow
def test_what_was_trained_here_is_evaluated_with_an_import_beside_it(tmp_path, names, capsys):
    shelf, said = tmp_path / "shelf", Said(labels=names, scale=1 / 255)
    shutil.copytree(PROJECT / "weights/mnist/lenet/backprop", shelf / "mnist/lenet/backprop")
    import_model("mnist/lenet", colours(tmp_path / "net.onnx"), said, shelf, "a test")
    assert main(["evaluate", "mnist", "lenet", "--repository", str(shelf)]) == 0
    said = capsys.readouterr().out
    assert "mnist-lenet-backprop" in said
    assert "imported" not in said


def test_a_name_that_protocols_could_not_tell_from_another_is_refused(tmp_path, names):
    model, said = colours(tmp_path / "net.onnx"), Said(labels=names, scale=1 / 255)
    shelf = tmp_path / "shelf"
    import_model("a-b/c", model, said, shelf, "a test")
    with pytest.raises(ForeignError, match="would call both a-b-c"):
        import_model("a/b-c", model, said, shelf, "a test")
    assert [path.name for path in shelf.iterdir()] == ["a-b"]
    assert import_model("a-b/c", model, said, shelf, "a test").card.version == 2


def test_a_name_that_is_one_of_a_trained_network_is_refused_too(tmp_path, names):
    (tmp_path / "shelf/fashion-mnist/lenet/metaplastic/1").mkdir(parents=True)
    model, said = colours(tmp_path / "net.onnx"), Said(labels=names, scale=1 / 255)
    with pytest.raises(ForeignError, match="fashion-mnist/lenet is in"):
        import_model("fashion/mnist-lenet", model, said, tmp_path / "shelf", "a test")


def test_the_printed_url_asks_the_version_that_was_imported(tmp_path, names, capsys):
    model, shelf = colours(tmp_path / "net.onnx"), tmp_path / "shelf"
    known = ["--labels", str(names), "--scale", "1/255", "--repository", str(shelf)]

    def printed() -> str:
        assert main(["import", "test/net", str(model), *known]) == 0
        return capsys.readouterr().out.split()[-1]

    assert printed() == "localhost:5000/api/test/net"
    set_aliases(shelf / "test/net/imported", champion=1)
    assert printed() == "'localhost:5000/api/test/net?version=2'"
    (shelf / "test/net/metaplastic").mkdir()
    assert printed() == "'localhost:5000/api/test/net?rule=imported&version=3'"


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)],
)
def test_an_import_that_is_ended_leaves_nothing_behind_and_says_so(tmp_path, names, number):
    model, shelf = colours(tmp_path / "net.onnx"), tmp_path / "shelf"
    words = ["import", "test/net", str(model), "--labels", str(names), "--scale", "1/255"]
    command = [sys.executable, "-m", "models", *words, "--repository", str(shelf)]
    process = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True)
    while not list(shelf.glob(".importing-*")) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    # Whoever sent SIGTERM sees that the process ended by it.
    assert process.returncode == (INTERRUPTED if number == signal.SIGINT else -number)
    assert said.strip() == "interrupted"
    assert not list(shelf.iterdir())


def test_what_a_killed_import_left_is_removed_by_the_next_one(tmp_path, bring):
    model, shelf = colours(tmp_path / "net.onnx"), tmp_path / "shelf"
    (shelf / ".importing-killed" / "version").mkdir(parents=True)
    with scratch_folder(shelf, ".importing-") as at_work:
        assert [path.name for path in shelf.iterdir()] == [at_work.name]
        bring(model)
        assert at_work.is_dir()
    assert [path.name for path in shelf.iterdir()] == ["test"]


def test_one_number_for_yes_and_no_says_what_to_export(tmp_path, refused):
    entry = helper.make_tensor_value_info("x", FLOAT, ["n", 3, 16, 16])
    exit_ = helper.make_tensor_value_info("out", FLOAT, ["n", 1, 1, 1])
    nodes = [helper.make_node("ReduceMean", ["x"], ["out"], axes=[1, 2, 3])]
    assert "1 - p and p" in refused(save(tmp_path / "net.onnx", nodes, [entry], [exit_], []))


def test_the_command_prints_what_it_found_and_hides_where_files_lie(tmp_path, names, capsys):
    model, shelf = colours(tmp_path / "net.onnx"), tmp_path / "shelf"
    command = ["import", "test/net", str(model), f"--labels={names}", "--repository", str(shelf)]
    assert main(command) == 1
    shelf.rmdir()
    assert "give --scale" in capsys.readouterr().err
    assert main([*command, "--scale", "1/255"]) == 0
    said = capsys.readouterr().out
    assert "16x16x3 pixels as float32 NCHW, 3 logits" in said
    assert "in_distribution will be null" in said
    assert (
        str(tmp_path)
        not in json.loads((shelf / "test/net/imported/1/card.json").read_text())["imported"][
            "command"
        ]
    )
    assert main(["list", "--repository", str(shelf), "--runs", str(tmp_path / "runs")]) == 0
    assert "test-net-imported" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["0", "-1", "1/0", "x", "nan", "inf"])
def test_a_scale_that_is_no_number_above_0_is_refused(names, capsys, value):
    with pytest.raises(SystemExit):
        main(["import", "a/b", "m.onnx", "--labels", str(names), f"--scale={value}"])
    assert "expected a number above 0" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("format_", [".keras", ".h5", "SavedModel"])
def test_a_keras_network_is_imported_from_each_of_its_formats(tmp_path, bring, format_):
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    hidden = keras.layers.Conv2D(4, 3, activation="relu")(image)
    outputs = keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling2D()(hidden))
    network = keras.Model(image, outputs)
    path = tmp_path / f"net{format_}"
    network.save(path if format_ != "SavedModel" else tmp_path / "net.keras")
    if format_ == "SavedModel":  # which TensorFlow alone writes, whatever trains here
        program = "import keras, sys; keras.saving.load_model(sys.argv[1]).export(sys.argv[2])"
        command = [sys.executable, "-c", program, tmp_path / "net.keras", path]
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        subprocess.run(command, env=environment, check=True, capture_output=True)
    folder = bring(path)
    pictures = np.random.default_rng(0).random((5, 16, 16, 3), np.float32)
    expected = network.predict(pictures, verbose=0)
    np.testing.assert_allclose(softmax(onnx_answers(folder, pictures)), expected, atol=1e-5)
    card = read_card(folder)
    assert card.imported.format == {".keras": "Keras", ".h5": "HDF5"}.get(format_, format_)
    assert card.multiply_adds == 14 * 14 * 4 * 27 + 4 * 3


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_keras_file_with_code_in_it_is_not_run(tmp_path, refused, ending):
    import keras

    image = keras.Input((16, 16, 3))
    mean = keras.layers.Lambda(lambda x: x[:, 0, 0], output_shape=(3,))(image)
    path = tmp_path / f"net{ending}"
    keras.Model(image, mean).save(path)
    said = refused(path)
    assert "cannot be converted to ONNX" in said
    assert "Lambda" in said or "lambda" in said
    assert "runs no code of a file" in said
    assert "safe_mode" not in said  # which the command does not have


@pytest.mark.parametrize("name", ["../../x", "assets/../../x", "/x"])
def test_a_keras_archive_with_a_name_outside_of_it_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr(name, "")
    with pytest.raises(ForeignError, match="names a file outside"):
        check_archive(tmp_path / "net.keras")


def test_a_keras_archive_that_holds_far_more_than_it_is_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("models.packaging.conversion.MOST_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "net.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", " " * 20_000)
    assert (tmp_path / "net.keras").stat().st_size < 200
    with pytest.raises(ForeignError, match="the most for a model"):
        check_archive(tmp_path / "net.keras")


@pytest.mark.slow
def test_a_keras_network_does_not_augment_what_it_is_asked(tmp_path, bring):
    import keras

    image = keras.Input((16, 16, 3))
    turned = keras.layers.RandomFlip()(image)
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(turned))
    network = keras.Model(image, outputs)
    network.save(tmp_path / "net.keras")
    folder = bring(tmp_path / "net.keras")
    pictures = np.random.default_rng(0).random((5, 16, 16, 3), np.float32)
    expected = network.predict(pictures, verbose=0)
    np.testing.assert_allclose(onnx_answers(folder, pictures), expected, atol=1e-4)


@pytest.mark.slow
def test_a_file_of_keras_2_is_imported(tmp_path, bring):
    import h5py
    import keras

    image = keras.Input((16, 16, 3))
    hidden = keras.layers.DepthwiseConv2D(3)(image)
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(hidden))
    network = keras.Model(image, outputs)
    network.save(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        (layer,) = (
            one for one in config["config"]["layers"] if one["class_name"] == "DepthwiseConv2D"
        )
        layer["config"]["groups"] = 1  # Keras 2 wrote it, and Keras 3 does not take it
        file.attrs["model_config"] = json.dumps(config)
    folder = bring(tmp_path / "net.h5")
    pictures = np.random.default_rng(0).random((5, 16, 16, 3), np.float32)
    expected = network.predict(pictures, verbose=0)
    np.testing.assert_allclose(onnx_answers(folder, pictures), expected, atol=1e-4)


@pytest.mark.slow
def test_a_saved_model_of_several_functions_says_which_one_is_meant(tmp_path, refused):
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    for name in ("train", "classify"):
        saved.meta_graphs.add().signature_def[name].method_name = "m"
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert "the signatures classify, train, and none" in refused(tmp_path / "net")


@pytest.mark.slow
def test_weights_that_an_hdf5_file_has_elsewhere_are_not_read(tmp_path, refused):
    import h5py
    import keras

    image = keras.Input((16, 16, 3))
    outputs = keras.layers.Dense(3, name="last")(keras.layers.Flatten()(image))
    keras.Model(image, outputs).save(tmp_path / "net.h5")
    (tmp_path / "secret").write_bytes(b"\0" * 768 * 3 * 4)
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        (name,) = (one for one in map(str, file["model_weights/last/last"]) if one != "bias")
        del file[f"model_weights/last/last/{name}"]
        place = [(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset(f"model_weights/last/last/{name}", (768, 3), "f4", external=place)
    assert "Not allowed: H5 file with external" in refused(tmp_path / "net.h5")


@pytest.mark.slow
def test_a_keras_file_that_is_broken_is_refused(tmp_path, refused):
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert "cannot be converted to ONNX" in refused(tmp_path / "net.keras")
