"""Measure how many unusual pictures are classified correctly.

    METAPLASTIC_DATA=... python -m benchmarks.readings [--images 200] [--split validation]

Each row is a way in which people send digits or garments. A function of this file changes the
pictures of the data set. They are saved as PNG and classified as POST /api/<model> does it. The
columns are the share of right answers and of refused pictures, the same for the usual reading
alone, and the share of pictures that were read in several ways. The rules in app/images/readings.py
were chosen on the validation split. The test split is for the report.

Fog, spatter and stripes follow MNIST-C (Mu & Gilmer, "MNIST-C: A Robustness Benchmark for Computer
Vision", 2019) at its own severities.
"""

import argparse
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from app.catalogue.catalogue import Model
from app.catalogue.load import load_catalogue
from app.errors import RequestError
from app.images.upload import Upload
from app.predict.classify import classify, prepare_each
from app.predict.inference import infer
from app.settings import Settings
from models.data.datasets import load, split

Bytes = NDArray[np.uint8]
Change = Callable[[Image.Image, np.random.Generator], Image.Image]

SEED = 0


# Each function takes a 28x28 picture, light on black, mode "L", and returns a changed one.


def unchanged(picture: Image.Image, _: np.random.Generator) -> Image.Image:
    return picture


def negative(picture: Image.Image) -> Image.Image:
    return picture.point(lambda level: 255 - level)


def enlarged(picture: Image.Image, _: np.random.Generator) -> Image.Image:
    """Enlarge ten times, smoothly."""
    return picture.resize((280, 280), Image.Resampling.BICUBIC)


def with_border(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Enlarge, then extend the black ground by a fifth."""
    ground = Image.new("L", (392, 392))
    ground.paste(enlarged(picture, chance), (56, 56))
    return ground


def on_paper(picture: Image.Image, _: np.random.Generator) -> Image.Image:
    """Invert to dark on white, and enlarge five times."""
    return negative(picture.resize((140, 140), Image.Resampling.BICUBIC))


def framed(level: int) -> Change:
    """Put the digit on paper with a frame of one pixel along the edge."""

    def change(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
        image = on_paper(picture, chance)
        ImageDraw.Draw(image).rectangle((0, 0, 139, 139), outline=level)
        return image

    return change


def framed_as_it_is(picture: Image.Image, _: np.random.Generator) -> Image.Image:
    """Draw a white frame of one pixel around the unchanged picture."""
    image = picture.copy()
    ImageDraw.Draw(image).rectangle((0, 0, 27, 27), outline=255)
    return image


def plotted(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Enlarge like a plotting library: large pixels, and a white margin."""
    scale, margin = int(chance.integers(4, 12)), chance.uniform(0.02, 0.25)
    large = picture.resize((28 * scale, 28 * scale), Image.Resampling.NEAREST)
    wide = round(28 * scale * margin)
    image = Image.new("RGB", (large.width + 2 * wide, large.height + 2 * wide), "white")
    image.paste(large, (wide, wide))
    return image


def on_a_desk(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Put the digit on a white sheet, and the sheet on an even dark desk of twice its width."""
    sheet, desk = Image.new("L", (200, 200), 255), Image.new("L", (400, 400), 40)
    sheet.paste(on_paper(picture, chance), (30, 30))
    desk.paste(sheet, (100, 100))
    return desk


def on_a_real_desk(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Put a sheet of random size, slightly rotated, at a random place on a grainy desk."""
    width, height = 400, 300
    desk = chance.normal(chance.uniform(40, 90), 6, (height, width)).clip(0, 255).astype(np.uint8)
    scene = Image.fromarray(desk)
    side = int(chance.integers(150, 240))
    sheet = negative(picture.resize((side * 7 // 10,) * 2, Image.Resampling.BICUBIC))
    paper = Image.new("L", (side, side), 255)
    paper.paste(sheet, (side * 3 // 20,) * 2)
    paper = paper.point(lambda level: level * 235 // 255)
    angle = chance.uniform(-8, 8)
    turned = paper.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    mask = Image.new("L", paper.size, 255).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    left = int(chance.integers(0, width - turned.width))
    top = int(chance.integers(0, height - turned.height))
    scene.paste(turned, (left, top), mask)
    return scene


def squared(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Write in ink on squared paper with thin grey, blue or red lines."""
    colours = ((200, 200, 200), (170, 200, 235), (235, 180, 180), (150, 150, 170))
    colour = colours[int(chance.integers(len(colours)))]
    side, step = 280, int(chance.integers(14, 40))
    paper = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(paper)
    wide = int(chance.integers(1, 3))
    for at in range(int(chance.integers(step)), side, step):
        draw.line((at, 0, at, side), colour, wide)
    for at in range(int(chance.integers(step)), side, step):
        draw.line((0, at, side, at), colour, wide)
    ink = Image.new("RGB", (side, side), (20, 20, 60))
    paper.paste(ink, mask=picture.resize((side, side), Image.Resampling.BICUBIC))
    return paper


def ruled(step: int, wide: int, level: int) -> Change:
    """Write in ink on large squares, whose lines have the grey `level` and cross the digit."""

    def change(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
        paper, side = np.full((228, 228), 245, np.uint8), 168
        large = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), np.float64)
        paper[30:198, 30:198] = 245 - 225 * large / 255
        start = int(chance.integers(step))
        for at in range(start, len(paper), step):
            paper[at : at + wide] = np.minimum(paper[at : at + wide], level)
            paper[:, at : at + wide] = np.minimum(paper[:, at : at + wide], level)
        return Image.fromarray(paper)

    return change


def light_in_fog(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Cover the digit with clouds of light fog about as wide as a stroke."""
    scene = np.full((228, 228), 15.0)
    large = np.asarray(picture.resize((168, 168), Image.Resampling.BICUBIC), np.float64)
    scene[30:198, 30:198] += 220 * large / 255
    cloud = _blurred(chance.random((228, 228)), 18)
    thick = (0.5 + 0.25 * (cloud - cloud.mean()) / cloud.std()).clip(0, 1) * 0.9
    return Image.fromarray((scene * (1 - thick) + 200 * thick).astype(np.uint8))


def on_a_cut_off_sheet(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Put a sheet into a corner of the picture, beside a desk with strong grain."""
    scene = chance.normal(50, 10, (288, 288)).clip(0, 255).astype(np.uint8)
    large = np.asarray(picture.resize((168, 168), Image.Resampling.BICUBIC), np.float64)
    scene[:228, :228] = 235
    scene[30:198, 30:198] = 235 - 205 * large / 255
    return Image.fromarray(scene)


def tight(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Enlarge ten times, and crop to the content."""
    where = picture.point(lambda level: 255 * (level > 20)).getbbox()
    cut = picture.crop(where)
    return cut.resize((10 * cut.width, 10 * cut.height), Image.Resampling.BICUBIC)


def cut_at_one_side(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Cut off the first two columns, and enlarge ten times."""
    return enlarged(picture, chance).crop((20, 0, 280, 280))


def cut_at_two_sides(picture: Image.Image, _: np.random.Generator) -> Image.Image:
    """Cut off the first two and the last two columns."""
    return picture.crop((2, 0, 26, 28))


def on_grey(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Enlarge ten times, on dark grey instead of black."""
    return enlarged(picture, chance).point(lambda level: 40 + level * 215 // 255)


def padded(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Enlarge ten times, with more ground above."""
    ground = Image.new("L", (280, 340))
    ground.paste(enlarged(picture, chance), (0, 60))
    return ground


def fog(severity: int, scale: int = 1) -> Change:
    """Return MNIST-C's fog, for a picture enlarged `scale` times."""
    thickness, decay = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[severity - 1]

    def change(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
        light = np.asarray(picture, np.float64) / 255
        cloud = _cloud(decay, chance)[:28, :28]
        light = (light + thickness * cloud) * light.max() / (light.max() + thickness)
        image = Image.fromarray((light.clip(0, 1) * 255).astype(np.uint8))
        return image.resize((28 * scale, 28 * scale), Image.Resampling.BICUBIC)

    return change


def spattered(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Return MNIST-C's spatter: grey mud in front of the digit."""
    liquid = _blurred(chance.normal(0.65, 0.3, (28, 28)), 1)
    mud = _blurred((liquid > 0.65).astype(np.float64), 1.5)
    mud[mud < 0.8] = 0
    light = np.asarray(picture, np.float64) / 255 * (1 - mud) + 63 / 255 * mud
    return Image.fromarray((light.clip(0, 1) * 255).astype(np.uint8))


def dotted(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Add sixty drops of ink, each as large as a part of the stroke, on paper."""
    image = on_paper(picture, chance)
    draw = ImageDraw.Draw(image)
    for x, y, size in chance.uniform((0, 0, 1), (140, 140, 4), (60, 3)):
        draw.ellipse((x, y, x + size, y + size), fill=int(chance.integers(0, 120)))
    return image


def striped(picture: Image.Image, _: np.random.Generator) -> Image.Image:
    """Apply MNIST-C's stripes: invert a quarter at each side."""
    light = np.asarray(picture).copy()
    light[:, :7], light[:, 21:] = 255 - light[:, :7], 255 - light[:, 21:]
    return Image.fromarray(light)


def _cloud(decay: float, chance: np.random.Generator) -> NDArray[np.float64]:
    """Return fractal noise (256, 256) in 0..1; each octave is weaker by `decay` squared."""
    cloud, strength = np.zeros((256, 256)), 1.0
    for cells in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        grid = chance.uniform(-1, 1, (cells, cells)).astype(np.float32)
        fine = Image.fromarray(np.pad(grid, ((0, 1), (0, 1)), mode="wrap"))
        step = 256 // cells
        whole = fine.resize((256 + step, 256 + step), Image.Resampling.BILINEAR)
        cloud += strength * np.asarray(whole, np.float64)[:256, :256]
        strength /= decay**2
    cloud -= cloud.min()
    return cloud / cloud.max()


def _blurred(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    blurred = Image.fromarray(values.astype(np.float32))
    reach = np.arange(-4 * int(sigma + 1), 4 * int(sigma + 1) + 1)
    kernel = np.exp(-(reach**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    array = np.asarray(blurred, np.float64)
    for axis in (0, 1):
        width = [(0, 0), (0, 0)]
        width[axis] = (len(reach) // 2, len(reach) // 2)
        padded = np.pad(array, width, mode="symmetric")
        array = np.apply_along_axis(lambda row: np.convolve(row, kernel, "valid"), axis, padded)
    return array


DIGITS: dict[str, Change] = {
    "as in the data set": unchanged,
    "on paper": on_paper,
    "enlarged": enlarged,
    "black frame": framed(0),
    "grey frame": framed(211),
    "28x28, white frame": framed_as_it_is,
    "white margins": plotted,
    "sheet on a desk": on_a_desk,
    "sheet, turned, grain": on_a_real_desk,
    "squared paper": squared,
    "squares, 2 px, 120": ruled(40, 2, 120),
    "squares, 3 px, 150": ruled(40, 3, 150),
    "squares, 3 px, 60": ruled(28, 3, 60),
    "sheet, cut off": on_a_cut_off_sheet,
    "cropped to it": tight,
    "light, in fog": light_in_fog,
    "fog, severity 1": fog(1),
    "fog, severity 3": fog(3),
    "fog, severity 5": fog(5),
    "fog, 3, enlarged": fog(3, 10),
    "spatter": spattered,
    "drops of ink": dotted,
    "stripes": striped,
}
GARMENTS: dict[str, Change] = {
    "as in the data set": unchanged,
    "on paper": on_paper,
    "enlarged": enlarged,
    "enlarged, border": with_border,
    "black frame": framed(0),
    "grey frame": framed(211),
    "28x28, white frame": framed_as_it_is,
    "white margins": plotted,
    "sheet on a desk": on_a_desk,
    "sheet, turned, grain": on_a_real_desk,
    "cropped to it": tight,
    "cut at one side": cut_at_one_side,
    "cut at two sides": cut_at_two_sides,
    "on dark grey": on_grey,
    "padded at one side": padded,
    "fog, severity 1": fog(1),
}
SETS = {"mnist": DIGITS, "fashion-mnist": GARMENTS}


def usual_only(model: Model, upload: Upload, settings: Settings) -> str:
    """Return the label for the usual reading, or "" if that reading shows nothing."""
    (picture,) = prepare_each([upload], model.card.input, settings, raw=False)
    if isinstance(picture, RequestError) or picture.usual is None:
        return ""
    outcome = infer(model.network, picture.usual.pixels[None], model.calibration)
    return model.card.labels[int(outcome.probabilities[0].argmax())]


def row_of(model: Model, change: Change, images: Bytes, labels: list[str]) -> tuple[float, ...]:
    """Return the columns of one row as shares (0..1)."""
    settings, chance = Settings(), np.random.default_rng(SEED)
    found = []
    for image, label in zip(images, labels, strict=True):
        buffer = io.BytesIO()
        change(Image.fromarray(image.reshape(28, 28)), chance).save(buffer, "PNG")
        upload = Upload(buffer.getvalue(), None)
        usual = usual_only(model, upload, settings)
        answer = classify(model, [upload], settings, top=1, raw=False, partial=True)
        prediction: Any = answer["predictions"][0]
        said = prediction.get("label", "")
        several = any("ways" in step for step in prediction.get("preprocessing", ()))
        found.append((said == label, said == "", usual == label, usual == "", several))
    return tuple(np.mean(found, axis=0).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--models", nargs="+", default=[f"{name}/lenet" for name in SETS])
    wanted = parser.parse_args()
    print(f"{'':36} {'right':>6} {'refused':>8} {'usual: right':>13} {'refused':>8} {'several':>8}")
    for name in wanted.models:
        model = load_catalogue(Settings()).endpoints[name].find()
        arrays = load(model.card.dataset)
        images, classes = arrays.x_test, arrays.y_test
        if wanted.split == "validation":
            share = model.card.need_training().recipe["validation"]
            _, (images, classes) = split(arrays.x_train, arrays.y_train, share)
        some = np.random.default_rng(SEED).permutation(len(classes))[: wanted.images]
        labels = [model.card.labels[int(index)] for index in classes[some].ravel()]
        for title, change in SETS[model.card.dataset].items():
            right, refused, usual, blank, several = row_of(model, change, images[some], labels)
            print(
                f"{name:20} {title:22} {right:6.1%} {refused:8.1%} {usual:13.1%} {blank:8.1%} "
                f"{several:8.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
