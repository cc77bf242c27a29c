"""A folder of pictures becomes a data set: `python -m models data add`, on real files."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.__main__ import main
from models.data import storage
from models.data.datasets import DataError, dataset, load
from models.data.storage import StoredImages
from models.training.recipes import recipe_for
from tests.models.drawn import draw_shapes, shape

COLOURS = {"blue": (20, 40, 200), "green": (30, 180, 40), "red": (210, 30, 20)}


@pytest.fixture
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    monkeypatch.setenv("METAPLASTIC_DATA", str(folder))
    return folder


def speckled(colour, seed, size=(64, 64)):
    """A picture of a colour, with coarse specks that make it unlike the others."""
    random = np.random.default_rng(seed)
    specks = random.integers(-60, 61, (8, 8, 3))
    coarse = np.clip(np.array(colour) + specks, 0, 255).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def write_colours(root, each=20, first=0):
    for number, (name, colour) in enumerate(COLOURS.items()):
        (root / name).mkdir(parents=True)
        for k in range(each):
            speckled(colour, 1000 * number + first + k).save(root / name / f"{first + k:03}.png")
    return root


def add(name, source, *options):
    return main(["data", "add", name, str(source), *options])


def counts(labels):
    return np.bincount(labels, minlength=3).tolist()


def test_each_class_has_the_colour_of_its_folder(tmp_path, data):
    assert add("colours", write_colours(tmp_path / "in"), "--size", "32", "--test", "0.2") == 0
    known, arrays = dataset("colours"), load("colours")
    assert known.labels == ("blue", "green", "red")
    assert (known.input.height, known.input.width, known.input.channels) == (32, 32, 3)
    assert known.splits == {"train": 48, "val": 0, "test": 12}
    assert (counts(arrays.y_train), counts(arrays.y_test)) == ([16] * 3, [4] * 3)
    for number, colour in enumerate(COLOURS.values()):
        mean = arrays.x_train[np.flatnonzero(arrays.y_train == number)].mean(axis=(0, 1, 2))
        assert np.abs(mean - colour).max() < 25
    pixels = arrays.x_train[:] / 255
    np.testing.assert_allclose(known.input.mean, pixels.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(known.input.std, pixels.std(axis=(0, 1, 2)), atol=1e-4)


def test_a_folder_a_zip_and_tables_of_the_same_pictures_are_the_same_data(tmp_path, data, capsys):
    folder = write_colours(tmp_path / "in", 6)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        for file in files:
            archive.write(folder / file, f"top/{file}")
        archive.writestr("top/__MACOSX/x", b"not ours")
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(("file", "label"))
    writer.writerows((str(file), file.parts[0]) for file in files)
    (tmp_path / "in" / "labels.csv").write_text(table.getvalue())
    with zipfile.ZipFile(tmp_path / "table.zip", "w") as archive:
        for file in files:
            archive.write(folder / file, str(file))
        archive.writestr("pictures.csv", "\ufeff" + table.getvalue().replace(",", ";"))
    sources = {
        "table": folder / "labels.csv",
        "table-in-folder": folder,
        "table-in-zip": tmp_path / "table.zip",
        "folders-in-zip": tmp_path / "plain.zip",
    }
    for name, source in sources.items():
        assert add(name, source, "--size", "28") == 0
    (folder / "labels.csv").unlink()
    assert add("folders", folder, "--size", "28") == 0
    assert len({dataset(name).sha256 for name in (*sources, "folders")}) == 1


def test_given_splits_are_kept_and_choices_are_made_on_val(tmp_path, data):
    for number, split in enumerate(("train", "val", "test")):
        write_colours(tmp_path / "in" / split, (10, 4, 3)[number], first=100 * number)
    assert add("colours", tmp_path / "in", "--size", "28") == 0
    arrays = load("colours")
    assert (counts(arrays.y_train), counts(arrays.y_test)) == ([10] * 3, [3] * 3)
    training, validation = arrays.split(0.5)
    assert (counts(training[1]), counts(validation[1])) == ([10] * 3, [4] * 3)
    with pytest.raises(SystemExit):
        main(["train", "colours", "lenet", "--validation", "0.2", "--runs", str(tmp_path / "r")])


def test_a_table_may_say_the_split(tmp_path, data):
    folder = write_colours(tmp_path / "in", 4)
    rows = [
        f"{path.relative_to(folder)},{path.parent.name},{'test' if '003' in path.name else 'train'}"
        for path in sorted(folder.rglob("*.png"))
    ]
    (folder / "all.csv").write_text("\n".join(["file,label,split", *rows]))
    assert add("colours", folder / "all.csv", "--size", "28") == 0
    assert dataset("colours").splits == {"train": 9, "val": 0, "test": 3}


def test_what_a_table_does_not_name_or_names_in_vain_is_reported(tmp_path, data, capsys):
    folder = write_colours(tmp_path / "in", 4)
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in folder.rglob("*.png")]
    rows[0] = f"red/missing.png,{rows[0].partition(',')[2]}"
    (folder / "labels.csv").write_text("\n".join(["file,label", *rows]))
    assert add("colours", folder, "--size", "28") == 0
    told = capsys.readouterr().out
    assert "Left out, since they have no label or cannot be read as pictures: 2" in told
    assert "red/missing.png: No such file or directory" in told
    assert "has no label" in told


FORMATS = {
    "a.png": {},
    "b.jpg": {"quality": 95},
    "c.gif": {},
    "d.webp": {"lossless": True},
    "e.avif": {"quality": 95},
    "f.heic": {"format": "HEIF", "quality": 95},
    "g.tiff": {},
    "h.ppm": {},
    "i.bmp": {},
    "without-ending": {"format": "PNG"},
}


def test_every_format_that_the_service_reads_is_read(tmp_path, data):
    for name, colour in COLOURS.items():
        (tmp_path / "in" / name).mkdir(parents=True)
        for number, (file, how) in enumerate(FORMATS.items()):
            speckled(colour, len(name) * 100 + number).save(tmp_path / "in" / name / file, **how)
    assert add("colours", tmp_path / "in") == 0
    assert sum(dataset("colours").splits.values()) == 3 * len(FORMATS)
    arrays = load("colours")
    for number, colour in enumerate(COLOURS.values()):
        each = arrays.x_train[np.flatnonzero(arrays.y_train == number)].mean(axis=(1, 2))
        assert np.abs(each - colour).max() < 35


def test_what_is_no_picture_is_listed_and_left_out(tmp_path, data, capsys):
    folder = write_colours(tmp_path / "in")
    (folder / "red" / "notes.txt").write_text("the red ones")
    whole = (folder / "red" / "000.png").read_bytes()
    (folder / "red" / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "readme.md").write_text("not in a class' folder")
    (folder / "red" / ".DS_Store").write_bytes(b"Finder's own")
    os.mkfifo(folder / "red" / "pipe.png")
    assert add("colours", folder, "--size", "28") == 0
    told = capsys.readouterr().out
    assert "Left out, since they have no label or cannot be read as pictures: 4" in told
    for line in (
        "readme.md: has no label: it is in no class' folder",
        "red/half.png: damaged: ",
        "red/notes.txt: no picture of a known format",
        "red/pipe.png: ",
    ):
        assert line in told
    assert ".DS_Store" not in told
    assert sum(dataset("colours").splits.values()) == 60


def sides(arrays):
    """The groups that have pictures in the test, the validation and the training split."""
    folder = storage.data_folder() / "copies"
    _, _, test_groups = storage.open_splits(dataset("copies"), folder)["test"]
    training, validation = arrays.split(0.3)
    groups = np.load(folder / storage.GROUPS)
    held, kept = (set(groups[images.places].tolist()) for images, _ in (validation, training))
    return set(test_groups.tolist()), held, kept


def test_nearly_equal_pictures_stay_on_one_side_of_every_split(tmp_path, data, capsys):
    random = np.random.default_rng(3)
    for name in ("circle", "square"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(20):
            picture = shape(name, random).resize((120, 120))
            stem = tmp_path / "in" / name / f"{number:02}"
            picture.save(f"{stem}.png")
            picture.save(f"{stem}-again.jpg", quality=60)
            picture.resize((90, 90), Image.Resampling.BICUBIC).save(f"{stem}-small.png")
    assert add("copies", tmp_path / "in", "--test", "0.3") == 0
    told = capsys.readouterr().out
    pairs = int(told.partition("Pairs of pictures that are nearly equal: ")[2].split()[0])
    assert 2 * 40 <= pairs <= 3 * 40 + 6  # each with both copies, those with each other, and luck
    test, held, kept = sides(load("copies"))
    assert test
    assert held
    assert not test & (held | kept)
    assert not held & kept
    splits = dataset("copies").splits
    assert splits["test"] == pytest.approx(0.3 * 120, abs=6)


def test_what_the_owner_may_want_to_put_right_is_reported(tmp_path, data, capsys):
    folder = write_colours(tmp_path / "in" / "train", 20)
    write_colours(tmp_path / "in" / "test", 19, first=100)
    shutil.copy(folder / "red" / "003.png", folder / "blue" / "wrong.png")
    shutil.copy(folder / "red" / "004.png", tmp_path / "in" / "test" / "red" / "leak.png")
    speckled((9, 9, 9), 7, (20, 20)).save(folder / "green" / "little.png")
    (folder / "rare").mkdir()
    for number in range(3):
        speckled((200, 200, 90), 50 + number).save(folder / "rare" / f"{number}.png")
    assert add("colours", tmp_path / "in") == 0
    told = capsys.readouterr().out
    report = (data / "colours" / "report.txt").read_text()
    for text in (told, report):
        assert "Pictures equal to another: 2" in text
        assert "with two labels, one of which is wrong: 1" in text
        assert "train/blue/wrong.png (blue, train) = train/red/003.png (red, train)" in text
        assert "on two sides of the given split, which makes the test too easy: 1" in text
        assert "test/red/leak.png (red, test) = train/red/004.png (red, train)" in text
        assert "Classes with fewer than 20 pictures, too few to learn from: 1\n    rare: 3" in text
        assert "blurred now: 1\n    train/green/little.png" in text
    assert sum(dataset("colours").splits.values()) == 60 + 57 + 6  # nothing was dropped


def test_the_draw_depends_on_the_seed_alone(tmp_path, data):
    folder = write_colours(tmp_path / "in")
    for name, seed in (("one", "0"), ("same", "0"), ("other", "1")):
        assert add(name, folder, "--size", "28", "--seed", seed) == 0
    one, same, other = (dataset(name).sha256 for name in ("one", "same", "other"))
    assert one == same != other


@pytest.mark.parametrize(
    ("resize", "left", "middle"),
    [("crop", "white", "white"), ("pad", "white", "white"), ("stretch", "red", "white")],
)
def test_a_photo_of_other_proportions_is_cropped_padded_or_stretched(
    tmp_path, data, resize, left, middle
):
    colours = {"red": (255, 0, 0), "white": (255, 255, 255), "black": (0, 0, 0)}
    for folder in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        image = Image.new("RGB", (300, 100), "red")
        image.paste("white", (90, 0, 210, 100))
        image.save(tmp_path / "in" / folder / "0.png")
    assert add("wide", tmp_path / "in", "--resize", resize, "--size", "30") == 0
    (pixels,) = load("wide").x_train[:1]
    np.testing.assert_allclose(pixels[15, 15], colours[middle], atol=12)
    if resize == "pad":
        np.testing.assert_array_equal(pixels[2, 15], (0, 0, 0))
        np.testing.assert_allclose(pixels[15, 2], colours["red"], atol=12)
    else:
        np.testing.assert_allclose(pixels[2, 2], colours[left], atol=12)
    assert dataset("wide").input.resize == resize


def test_sides_may_differ_and_grey_is_one_channel(tmp_path, data):
    folder = write_colours(tmp_path / "in", 4)
    assert add("grey", folder, "--size", "32x48", "--channels", "1") == 0
    assert load("grey").x_train.shape[1:] == (32, 48, 1)


@pytest.mark.parametrize("dark", [True, False])
def test_digits_are_light_on_dark_and_in_the_middle_whatever_the_paper(tmp_path, data, dark):
    ink, paper = ("black", "white") if dark else ("white", "navy")
    for name, box in (("one", (10, 20, 22, 90)), ("minus", (60, 100, 130, 112))):
        for number, split in enumerate(("train", "test")):
            (tmp_path / "in" / split / name).mkdir(parents=True)
            image = Image.new("RGB", (150, 150), paper)
            image.paste(ink, tuple(side + 5 * number for side in box))
            image.save(tmp_path / "in" / split / name / "0.png")
    assert add("marks", tmp_path / "in", "--style", "digit", "--size", "28") == 0
    arrays = load("marks")
    for image, label in zip(arrays.x_train[:], arrays.y_train, strict=True):
        ink_at = np.argwhere(image[..., 0] > 128)
        np.testing.assert_allclose(ink_at.mean(axis=0), (13.5, 13.5), atol=1)
        tall, wide = np.ptp(ink_at, axis=0) + 1
        assert max(tall, wide) == pytest.approx(20, abs=1)
        assert (tall > wide) == (dataset("marks").labels[label] == "one")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Red Shoes", [], "cannot be called 'Red Shoes'"),
        ("../x", [], "cannot be called '../x'"),
        ("mnist", [], "mnist is built in: choose another name"),
        ("colours", ["--test", "1.5"], "test: expected a share between 0 and 1, found 1.5"),
        ("colours", ["--style", "digit", "--channels", "3"], "have 1 channel, not 3"),
    ],
)
def test_what_cannot_be_added_is_refused(tmp_path, data, name, options, message, capsys):
    assert add(name, write_colours(tmp_path / "in", 3), *options) == 1
    assert message in capsys.readouterr().err
    assert storage.stored_names() == []


@pytest.mark.parametrize("size", ["27", "257", "64x300", "big", "64x"])
def test_a_size_that_is_none_is_refused(data, size, capsys):
    with pytest.raises(SystemExit):
        add("colours", "in", "--size", size)
    assert "expected pixels from 28 to 256, as in 64 or 48x64" in capsys.readouterr().err


def table(text):
    return lambda root: (root / "labels.csv").write_text(text)


@pytest.mark.parametrize(
    ("make", "source", "message"),
    [
        (lambda root: None, "missing", "missing does not exist"),
        (lambda root: None, ".", "expected a folder for each class with pictures in it"),
        (lambda root: (root / "x.zip").write_text("text"), "x.zip", "or a zip file of either"),
        (table("name,kind\na.png,red\n"), ".", "expected a first line file,label"),
        (table("file,label\na.png,\n"), ".", "row 2: expected a file and a label"),
        (table("file,label\na.png,x\na.png,y\n"), ".", "row 3: a.png stands in another row"),
        (table("file,label,split\na.png,x,dev\n"), ".", "split: expected train, val or test"),
        (table("file,label\na.png,x\nb.png,y\n"), ".", "expected pictures of two or more classes"),
    ],
)
def test_a_source_that_holds_no_labelled_pictures_is_refused(
    tmp_path, data, make, source, message, capsys
):
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    assert add("colours", tmp_path / "in" / source) == 1
    assert message in capsys.readouterr().err
    assert storage.stored_names() == []
    assert not list(data.glob(".adding*"))


def test_one_class_is_no_data_set_and_three_equal_pictures_are_no_class(tmp_path, data, capsys):
    folder = write_colours(tmp_path / "in", 4)
    for name in ("blue", "green"):
        shutil.rmtree(folder / name)
    assert add("one", folder) == 1
    assert "expected pictures of two or more classes, found 4 of red" in capsys.readouterr().err


def test_a_name_is_given_once_until_it_is_removed(tmp_path, data, capsys):
    folder = write_colours(tmp_path / "in", 4)
    assert add("colours", folder) == 0
    assert add("colours", folder) == 1
    assert "python -m models data remove colours" in capsys.readouterr().err
    assert main(["data", "remove", "colours"]) == 0
    assert add("colours", folder) == 0
    assert main(["data", "remove", "colour"]) == 1
    assert "no data set was added as 'colour'; there are: colours" in capsys.readouterr().err
    assert main(["data", "remove", "mnist"]) == 1
    assert "mnist is built in" in capsys.readouterr().err


def test_the_list_has_what_was_added_and_show_draws_it(tmp_path, data, capsys):
    assert add("colours", write_colours(tmp_path / "in")) == 0
    capsys.readouterr()
    assert main(["data"]) == 0
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row == ["colours", "64x64x3", "3", "51", "9", str(data / "colours")]
    target = tmp_path / "colours.png"
    assert main(["data", "show", "colours", "--out", str(target)]) == 0
    drawn = np.asarray(Image.open(target).convert("RGB")).reshape(-1, 3).astype(int)
    for colour in COLOURS.values():  # the pictures are there
        assert (np.abs(drawn - colour).max(axis=1) < 30).sum() > 1000


def test_without_a_variable_data_go_to_the_users_own_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("METAPLASTIC_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert add("colours", write_colours(tmp_path / "in", 4)) == 0
    assert (tmp_path / "share" / "metaplastic" / "colours" / "dataset.json").exists()


def test_arrays_that_were_changed_are_noticed(tmp_path, data):
    assert add("colours", write_colours(tmp_path / "in", 4)) == 0
    path = data / "colours" / "images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="has changed since it was added"):
        load("colours")
    path.unlink()
    with pytest.raises(DataError, match="is not whole"):
        load("colours")
    (data / "colours" / "dataset.json").write_text(json.dumps({"name": "colours"}))
    with pytest.raises(DataError, match="data remove colours"):
        load("colours")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_end_in_the_middle_leaves_nothing_behind(tmp_path, data, number):
    folder = draw_shapes(tmp_path / "in", 400)
    process = subprocess.Popen(
        [sys.executable, "-m", "models", "data", "add", "shapes", str(folder), "--size", "256"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    written = data / ".adding-shapes" / "images.npy"
    ends = time.monotonic() + 60
    while not (written.exists() and written.stat().st_size > 1000) and time.monotonic() < ends:
        assert process.poll() is None, process.communicate()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "interrupted; nothing was added" in err
    assert [path.name for path in data.iterdir()] == [".lock"]


def test_a_recipe_is_there_for_any_network_and_fits_the_number_of_pictures(tmp_path, data):
    assert add("shapes", draw_shapes(tmp_path / "in", 10)) == 0
    few = recipe_for("shapes", "vgg", "metaplastic")
    many = recipe_for("tiny-imagenet", "vgg", "metaplastic")
    assert few.epochs > many.epochs
    assert few.batch_size < many.batch_size
    assert few.augment["flip"] > 0
    assert add("signs", tmp_path / "in", "--style", "digit", "--size", "28") == 0
    assert "flip" not in recipe_for("signs", "lenet", "backprop").augment
    assert recipe_for("shapes", "googlenet", "backprop", {"epochs": 3}).epochs == 3


MEMORY = """
import resource, sys
import numpy as np
from models.data.batches import TrainingBatches
from models.data.storage import StoredImages
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images = StoredImages(sys.argv[1], np.arange(60_000))
batches = TrainingBatches(images, np.arange(60_000) % 4, 4, 128, 0, {})
for number in range(len(batches)):
    batches[number]
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_an_epoch_of_pictures_leaves_them_on_the_disk(tmp_path):
    path = tmp_path / "images.npy"
    shape = (60_000, 64, 64, 3)  # 703 MiB, which take no room on the disk until they are written
    np.lib.format.open_memmap(path, "w+", np.uint8, shape).flush()
    assert StoredImages(path, np.arange(10)).shape == (10, 64, 64, 3)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 250 << 20
