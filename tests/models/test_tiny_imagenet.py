"""Tiny ImageNet from a small made archive of the published layout, and from a real sample."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.__main__ import main
from models.cards import find_models
from models.data import tiny_imagenet
from models.data.datasets import DATASETS, dataset, load
from models.data.download import checksum
from models.data.tiny_imagenet import classes

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "tiny_imagenet_sample.zip"
KINDS = {"n01443537": (200, 80, 20), "n02124075": (20, 90, 200), "n12267677": (90, 90, 90)}
ROOT = "tiny-imagenet-200"


def jpeg(colour, side=64, mode="RGB"):
    encoded = io.BytesIO()
    Image.new("RGB", (side, side), colour).convert(mode).save(encoded, "JPEG")
    return encoded.getvalue()


def write_archive(path, per_class=10, extra=None):
    """The published layout, of three classes, each of a colour; the acorns are grey JPEGs."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{ROOT}/wnids.txt", "\n".join(KINDS))
        annotations = []
        for kind, colour in KINDS.items():
            mode = "L" if len(set(colour)) == 1 else "RGB"
            archive.writestr(
                f"{ROOT}/train/{kind}/{kind}_boxes.txt", f"{kind}_0.JPEG\t0\t0\t9\t9\n"
            )
            for number in range(per_class):
                # A little lighter and darker in turn, so that no two of them are equal.
                change = (number + 1) // 2 * (-1) ** number
                image = jpeg(tuple(value + change for value in colour), mode=mode)
                archive.writestr(f"{ROOT}/train/{kind}/images/{kind}_{number}.JPEG", image)
                name = f"val_{len(annotations)}.JPEG"
                archive.writestr(f"{ROOT}/val/images/{name}", image)
                annotations.append(f"{name}\t{kind}\t0\t32\t44\t62\n")
        archive.writestr(f"{ROOT}/val/val_annotations.txt", "".join(annotations))
        archive.writestr(f"{ROOT}/test/images/test_0.JPEG", jpeg((0, 0, 0)))
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return path


def read(source):
    assert main(["data", "add", "tiny-imagenet", str(source)]) == 0
    return load("tiny-imagenet")


@pytest.fixture
def archive(tmp_path):
    return write_archive(tmp_path / "made.zip")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    monkeypatch.setenv("METAPLASTIC_DATA", str(folder))
    return folder


@pytest.mark.usefixtures("folder")
def test_each_image_has_the_colour_of_its_class(archive):
    arrays = read(archive)
    for images, labels in ((arrays.x_train, arrays.y_train), (arrays.x_test, arrays.y_test)):
        assert images.shape == (30, 64, 64, 3)
        images = images[:]
        for number, colour in zip((0, 32, 199), KINDS.values(), strict=True):
            ours = images[labels == number]
            assert len(ours) == 10
            np.testing.assert_allclose(ours.mean(axis=(0, 1, 2)), colour, atol=3)


def test_the_classes_are_200_words_in_the_order_of_their_numbers():
    assert len(classes()) == len(set(classes().values())) == 200
    assert list(classes()) == sorted(classes())
    assert DATASETS["tiny-imagenet"].labels == tuple(classes().values())
    assert (classes()["n01443537"], classes()["n12267677"]) == ("goldfish", "acorn")


def test_an_archive_on_the_disk_is_added_and_loaded(archive, folder):
    arrays = read(archive)
    assert [path.name for path in folder.glob("[!.]*")] == ["tiny-imagenet"]
    assert set(arrays.y_train.tolist()) == {0, 32, 199}
    archive.unlink()
    assert main(["data", "add", "tiny-imagenet"]) == 0  # there already
    assert dataset("tiny-imagenet").splits == {"train": 30, "val": 0, "test": 30}


def test_its_folder_is_added_just_as_its_archive(archive, folder, tmp_path):
    expected = read(archive).sha256()
    assert main(["data", "remove", "tiny-imagenet"]) == 0
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    assert read(tmp_path / ROOT).sha256() == expected


def test_it_is_downloaded_where_it_is_not_there(archive, folder, monkeypatch, serve):
    server = serve(archive.read_bytes(), most=20_000)  # which breaks the connection off
    monkeypatch.setattr(tiny_imagenet, "URL", server.url)
    monkeypatch.setattr(tiny_imagenet, "SHA256", checksum(archive))
    monkeypatch.setattr(tiny_imagenet, "SIZE", archive.stat().st_size)
    assert main(["data", "add", "tiny-imagenet"]) == 0
    assert len(load("tiny-imagenet").x_train) == 30
    names = [path.name for path in folder.glob("[!.]*")]
    assert sorted(names) == ["file.zip", "tiny-imagenet"]
    assert len(server.asked) > 1


def test_it_is_asked_for_over_tls():
    assert tiny_imagenet.URL.startswith("https://")


def test_another_file_beside_it_is_not_taken_for_the_published_one(folder, capsys):
    folder.mkdir()
    write_archive(folder / "tiny-imagenet-200.zip")
    assert main(["data", "add", "tiny-imagenet"]) == 1
    assert f"expected {tiny_imagenet.SHA256}: delete it" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["tiny-imagenet-200.zip"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({f"{ROOT}/train/n9/images/n9_0.JPEG": jpeg((0, 0, 0))}, "n9_0.JPEG is of none of the 200"),
        ({f"{ROOT}/val/images/val_99.JPEG": jpeg((0, 0, 0))}, "val_99.JPEG is of none of the 200"),
    ],
)
def test_an_archive_with_what_does_not_belong_is_refused(tmp_path, folder, extra, message, capsys):
    archive = write_archive(tmp_path / "odd.zip", 1, extra)
    assert main(["data", "add", "tiny-imagenet", str(archive)]) == 1
    assert message in capsys.readouterr().err
    assert not folder.exists()


def test_an_image_that_cannot_be_read_is_listed_and_left_out(tmp_path, folder, capsys):
    extra = {f"{ROOT}/train/a/n01443537_99.JPEG": b"no JPEG"}
    arrays = read(write_archive(tmp_path / "odd.zip", 2, extra))
    assert "n01443537_99.JPEG: no picture of a known format" in capsys.readouterr().out
    assert len(arrays.x_train) == 6


@pytest.mark.usefixtures("folder")
def test_what_is_no_such_archive_is_refused(tmp_path, capsys):
    (tmp_path / "text.zip").write_text("text")
    with zipfile.ZipFile(tmp_path / "half.zip", "w") as archive:
        archive.writestr("train/n01443537_0.JPEG", jpeg((0, 0, 0)))
    for name, message in (
        ("text.zip", "or a zip file of either"),
        ("missing.zip", "does not exist"),
        ("half.zip", "in the folders train and val, found none in val"),
    ):
        assert main(["data", "add", "tiny-imagenet", str(tmp_path / name)]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_without_it_the_error_names_the_command_that_makes_it(tmp_path, capsys):
    runs = tmp_path / "runs"
    command = ["train", "tiny-imagenet", "deep", "--rule", "brainprop", "--runs", str(runs)]
    assert main(command) == 1
    assert "`python -m models data add tiny-imagenet` makes it" in capsys.readouterr().err
    assert not runs.exists()


@pytest.mark.usefixtures("on_made_data")
def test_other_data_sets_are_looked_at_in_the_same_way(tmp_path, capsys):
    assert main(["data", "add", "mnist"]) == 0
    assert main(["data", "show", "mnist", "--out", str(tmp_path / "mnist.png")]) == 0
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row[:6] == ["mnist", "28x28x1", "10", "300", "-", "100"]
    assert (tmp_path / "mnist.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_deep_is_trained_on_it_from_reward(archive, tmp_path):
    read(archive)
    command = ["train", "tiny-imagenet", "deep", "--rule", "brainprop", "--preset", "fast"]
    small = "network={blocks = [[1, 4, 0.0], [1, 4, 0.0]], hidden = 8, he = true}"
    settings = ["--epochs", "1", "--validation", "0.2", "--set", small]
    assert main([*command, *settings, "--runs", str(tmp_path / "runs")]) == 0
    ((_, card),) = find_models(tmp_path / "runs")
    assert (card.dataset, len(card.labels), card.input.width) == ("tiny-imagenet", 200, 64)
    assert card.validation.images == 6


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"there is no {SAMPLE}")
@pytest.mark.usefixtures("folder")
def test_a_sample_of_the_real_images_is_read():
    arrays = read(SAMPLE)
    x_train, y_train, x_test, y_test = (
        *(arrays.x_train[:], arrays.y_train),
        *(arrays.x_test[:], arrays.y_test),
    )
    assert (x_train.shape, x_test.shape) == ((300, 64, 64, 3), (100, 64, 64, 3))
    words = list(classes().values())
    with zipfile.ZipFile(SAMPLE) as sample:
        told = [
            line.partition("\t")[2].partition(",")[0]
            for line in sample.read("classes.txt").decode().splitlines()
        ]
    for labels, each in ((y_train, 30), (y_test, 10)):
        numbers, counts = np.unique(labels, return_counts=True)
        assert [words[number] for number in numbers] == told
        assert set(counts) == {each}
    assert x_train.std() > 50  # pictures, not blanks
