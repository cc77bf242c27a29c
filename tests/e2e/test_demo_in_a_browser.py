"""The demo in a real browser: drawn, dropped, compared, explained, kept as CSV; and accessible."""

import csv
import http.server
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.app.made import put_linear
from tests.e2e import pictures
from tests.e2e.chromium import Chrome, Page, open_browser
from tests.e2e.conftest import ROOT, Service, running

SAMPLES = ROOT / "app/static/samples"
SEVEN = (SAMPLES / "mnist/seven.png").read_bytes()
THREE = (SAMPLES / "mnist/three.png").read_bytes()
SHIP = (SAMPLES / "cifar10/ship.png").read_bytes()
TOP_OF_SEVEN = [(0.28, 0.22), (0.42, 0.21), (0.57, 0.21), (0.72, 0.2)]
STEM_OF_SEVEN = [(0.72, 0.2), (0.64, 0.38), (0.56, 0.58), (0.48, 0.8)]
HOSTILE = "<img src=x onerror='window.hacked=true'>"
NARROWEST = 320  # pixels: the width at which WCAG 1.4.10 wants no second direction of scrolling


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's digits, and made models of photographs, one class of them hostile."""
    root = tmp_path_factory.mktemp("repository")
    heavy = shutil.ignore_patterns("model.keras")
    shutil.copytree(ROOT / "weights/mnist/lenet", root / "mnist/lenet", ignore=heavy)
    for architecture in ("wide", "deep"):
        for rule in ("metaplastic", "backprop"):
            put_linear(
                root / "photos" / architecture / rule,
                dataset="cifar10",
                architecture=architecture,
                style="photo",
                labels=["airplane", "automobile", "bird", HOSTILE],
                rule=rule,
                default=rule == "metaplastic",
            )
    return root


@pytest.fixture(scope="module")
def site(repository: Path) -> Iterator[Service]:
    with running(weights=repository) as service:
        yield service


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browser keeps what it downloads."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(site: Service, downloads: Path) -> Iterator[Chrome]:
    """Closed before the service, which when it stops waits for whoever is connected."""
    yield from open_browser(downloads)


@pytest.fixture
def digits(browser: Chrome, site: Service) -> Page:
    """The demo at MNIST, with an empty pad."""
    return Page(browser, f"{site.url}/demo").ready()


@pytest.fixture
def photos(browser: Chrome, site: Service) -> Page:
    """The demo at photographs, the first sample classified."""
    page = Page(browser, f"{site.url}/demo?dataset=cifar10").ready()
    page.wait(lambda: page.text("#sure").endswith("sure"))
    return page


def draw_seven(page: Page, tool: str = "mouse") -> None:
    page.stroke(TOP_OF_SEVEN, tool)
    page.stroke(STEM_OF_SEVEN, tool)
    page.wait(lambda: page.text("#label") == "7")


def choose(page: Page, selector: str, *files: Path) -> None:
    """What somebody does with the browser's own file picker."""
    page.find(selector).send_keys("\n".join(map(str, files)))


def ink_of(page: Page, canvas: str) -> list[int]:
    """The red channel of a canvas."""
    return list(
        page.run(
            "const c = document.querySelector(arguments[0]);"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "return [...d].filter((_, i) => i % 4 === 0)",
            canvas,
        )
    )


@pytest.mark.parametrize("tool", ["mouse", "pen", "touch"])
def test_a_drawn_seven_is_read_as_a_seven(digits: Page, tool: str) -> None:
    draw_seven(digits, tool)
    assert digits.text("#sure").endswith("sure")
    assert len(digits.all("#bars li")) == 10
    assert "7" in digits.text("#bars .best")
    seen = ink_of(digits, "#seen")
    assert len(seen) == 28 * 28
    assert 20 < sum(value > 128 for value in seen) < 200
    assert "cropped to the ink" in digits.text("#steps")
    digits.wait(lambda: "ms from stroke to bars" in digits.text("#timing"))
    digits.wait(lambda: digits.run("return document.getElementById('said').textContent[0]") == "7")


def test_bars_move_before_the_pen_is_lifted(digits: Page) -> None:
    # The pointer's events as the browser gets them from a pen; the last one is still to come.
    digits.run(
        """
        const pad = document.getElementById("pad"), box = pad.getBoundingClientRect();
        pad.setPointerCapture = () => {};
        for (const [kind, x, y] of arguments[0]) {
          pad.dispatchEvent(new PointerEvent(kind, {
            clientX: box.left + x * box.width, clientY: box.top + y * box.height,
            pointerId: 7, pointerType: "pen", bubbles: true, button: 0,
          }));
        }
        """,
        [["pointerdown", 0.5, 0.15], *(["pointermove", 0.5, y / 100] for y in range(16, 85))],
    )
    digits.wait(lambda: digits.text("#label") == "1")


def test_strokes_are_undone_one_by_one_and_all_at_once(digits: Page) -> None:
    digits.stroke(STEM_OF_SEVEN)
    digits.wait(lambda: digits.text("#label") == "1")
    digits.stroke(TOP_OF_SEVEN)
    digits.wait(lambda: digits.text("#label") == "7")
    digits.click("#undo")
    digits.wait(lambda: digits.text("#label") == "1")
    digits.click("#clear")
    assert digits.text("#label") == "?"
    assert not digits.find("#undo").is_enabled()
    assert set(ink_of(digits, "#seen")) == {0}


def test_a_digit_is_drawn_with_the_keyboard_alone(digits: Page) -> None:
    for _ in range(30):
        if digits.run("return document.activeElement.id") == "pad":
            break
        digits.keys("\ue004")  # Tab
    assert digits.run("return document.activeElement.id") == "pad"
    down = "\ue015"
    digits.keys(" ", *[down] * 17)
    digits.wait(lambda: digits.text("#label") == "1")
    digits.keys(" ", "\ue003")  # the pen lifted; Backspace
    digits.wait(lambda: digits.text("#label") == "?")


def test_a_chosen_a_dropped_and_a_pasted_picture_are_read(digits: Page) -> None:
    choose(digits, "#choose", SAMPLES / "mnist/three.png")
    digits.wait(lambda: digits.text("#label") == "3")
    digits.drop({"a.png": SEVEN})
    digits.wait(lambda: digits.text("#label") == "7")
    digits.drop({"b.png": THREE}, "paste")
    digits.wait(lambda: digits.text("#label") == "3")
    assert digits.find("#preview").is_displayed()
    digits.click("[data-sample=nine]")
    digits.wait(lambda: digits.text("#label") == "9")


def test_another_network_answers_for_the_same_picture(photos: Page) -> None:
    before = photos.text("#sure")
    photos.run(
        "const s = document.getElementById('network'); s.value = (Number(s.value) + 2) % 4;"
        "s.dispatchEvent(new Event('change'))"
    )
    photos.wait(lambda: photos.text("#sure") not in (before, "Nothing to read yet"))


def test_every_network_is_compared(photos: Page) -> None:
    photos.click("#compare")
    photos.wait(lambda: " say " in photos.text("#compare-said"))
    rows = photos.all("#comparison tbody tr")
    assert len(rows) == 4
    for row in rows:
        cells = row.text.replace("\n", " ")
        assert "ms" in cells
        assert "90.00" in cells  # the accuracy in the made cards


def test_a_drawing_is_explained_where_its_ink_is(digits: Page) -> None:
    draw_seven(digits)
    digits.click("#explain")
    digits.wait(lambda: "The evidence for 7" in digits.text("#why-said"))
    red = ink_of(digits, "#heat")
    assert max(red) > 150
    assert red[0] < 40  # a corner, on which nothing is
    digits.run("document.getElementById('explained').value = '1'")
    digits.click("#explain")
    digits.wait(lambda: "The evidence for 1" in digits.text("#why-said"))


def test_many_pictures_become_a_table_and_a_csv_that_is_no_formula(
    digits: Page, downloads: Path
) -> None:
    files = {"=1+1.png": SEVEN, f"{HOSTILE}.png": THREE, "notes.txt": b"no picture"}
    digits.drop(files)
    digits.wait(lambda: "3 pictures" in digits.text("#batch-said"))
    assert "1 of them could not be read" in digits.text("#batch-said")
    shown = [row.text for row in digits.all("#results tbody tr")]
    assert [name in row for name, row in zip(files, shown, strict=True)] == [True] * 3
    assert digits.find("#progress").get_property("value") == 3
    digits.click("#download")
    target = downloads / "results.csv"
    digits.wait(target.is_file)
    with target.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    target.unlink()
    assert [row["file"] for row in rows] == ["'=1+1.png", f"{HOSTILE}.png", "notes.txt"]
    assert [row["label"] for row in rows] == ["7", "3", ""]
    assert float(rows[0]["probability"]) > 0.9
    assert "not a picture" in rows[2]["error"]
    assert digits.run("return window.hacked") is None


def test_a_csv_is_no_formula_in_spreadsheets_of_any_country(digits: Page, downloads: Path) -> None:
    digits.drop({"\uff1d1.png": SEVEN, " =1.png": SEVEN, 'a";=1.png': SEVEN})
    digits.wait(lambda: "3 pictures" in digits.text("#batch-said"))
    digits.click("#download")
    target = downloads / "results.csv"
    digits.wait(target.is_file)
    text = target.read_text(encoding="utf-8-sig")
    target.unlink()
    found = [row["file"] for row in csv.DictReader(text.splitlines())]
    assert found == ["'\uff1d1.png", "' =1.png", 'a";=1.png']
    for separator in ",;\t":
        cells = [cell for row in csv.reader(text.splitlines(), delimiter=separator) for cell in row]
        assert [cell for cell in cells if cell.strip()[:1] in ("=", "\uff1d")] == []


def test_a_hostile_label_is_only_a_word(photos: Page) -> None:
    assert HOSTILE in photos.text("#bars")
    photos.click("#compare")
    photos.wait(lambda: " say " in photos.text("#compare-said"))
    assert photos.run("return window.hacked") is None
    assert photos.complaints() == []


def test_what_cannot_be_read_is_said_in_words(digits: Page, tmp_path: Path) -> None:
    digits.drop({"notes.txt": b"no picture"})
    digits.wait(lambda: "not a picture" in digits.text("#problem"))
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(33 * 1024 * 1024)
    choose(digits, "#choose", large)
    digits.wait(lambda: "33 MiB; at most 32" in digits.text("#problem"))
    digits.click("#explain")
    digits.wait(lambda: "33 MiB; at most 32" in digits.text("#why-problem"))
    digits.click("#clear")
    digits.click("#explain")
    digits.wait(lambda: "first" in digits.text("#why-problem"))
    draw_seven(digits)
    assert not digits.find("#problem").is_displayed()


def test_a_service_that_is_gone_is_said_in_words(
    browser: Chrome, start: Callable[..., AbstractContextManager[Service]]
) -> None:
    with start(workers=1, graceful_timeout=1) as service:
        page = Page(browser, f"{service.url}/demo").ready()
    page.stroke(STEM_OF_SEVEN)
    page.wait(lambda: "does not answer" in page.text("#problem"))


def test_a_busy_service_is_said_in_words_and_asked_again(browser: Chrome, site: Service) -> None:
    with Gate(site, busy=2) as url:
        page = Page(browser, f"{url}/demo").ready()
        page.click("[data-sample=seven]")
        page.wait(lambda: "busy" in page.text("#problem"))
        page.drop({"a.png": SEVEN, "b.png": THREE})
        page.wait(lambda: page.text("#batch-said") == "2 pictures.")
        assert "7" in page.text("#results tbody tr")


def test_a_key_is_asked_for_where_the_service_wants_one(browser: Chrome, site: Service) -> None:
    with Gate(site, key="sesame") as url:
        page = Page(browser, f"{url}/demo").ready()
        page.click("[data-sample=seven]")
        page.wait(lambda: page.find("#key-form").is_displayed())
        assert "requires a key" in page.text("#problem")
        page.find("#key").send_keys("sesame\n")
        page.wait(lambda: page.text("#label") == "7")
        assert not page.find("#key-form").is_displayed()
        page = Page(browser, f"{url}/demo/models/mnist/lenet").ready()
        assert page.text(".chart .reading").startswith("Epoch")


class Gate(AbstractContextManager[str]):
    """A proxy before `site`: `busy` for the first questions, or asking for a `key`."""

    def __init__(self, site: Service, busy: int = 0, key: str = "") -> None:
        self.busy = busy
        gate = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                if gate.busy:
                    gate.busy -= 1
                    self.answer(503, {"Retry-After": "1"}, b'{"message":"Too much to do."}')
                else:
                    self.forward(body)

            def do_GET(self) -> None:
                self.forward(None)

            def forward(self, body: bytes | None) -> None:
                if self.path.startswith("/api") and key and self.headers["X-API-Key"] != key:
                    self.answer(401, {}, b'{"message":"No key.","code":"no_key"}')
                    return
                kind = {n: v for n, v in self.headers.items() if n == "Content-Type"}
                asked = urllib.request.Request(site.url + self.path, body, kind)
                try:
                    with urllib.request.urlopen(asked) as answer:
                        kind = {"Content-Type": answer.headers["Content-Type"]}
                        self.answer(answer.status, kind, answer.read())
                except urllib.error.HTTPError as error:
                    self.answer(error.code, {}, error.read())

            def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_a_models_curves_and_confusions_are_asked_by_mouse_and_keys(
    browser: Chrome, site: Service
) -> None:
    page = Page(browser, f"{site.url}/demo/models/mnist/lenet").ready()
    before = page.text(".chart[data-quantity=accuracy] .reading")
    assert before.startswith("Epoch ")
    page.run("document.querySelector('.chart svg').focus()")
    page.keys("\ue011")  # Home
    page.wait(lambda: page.text(".chart .reading").startswith("Epoch 1:"))
    page.keys("\ue014")  # ArrowRight
    page.wait(lambda: page.text(".chart .reading").startswith("Epoch 2:"))
    page.click("#matrix [data-true='9'][data-predicted='4']")
    assert " are taken for 4 " in page.text("#cell")
    page.keys("\ue014")
    assert " are taken for 5 " in page.text("#cell")
    assert page.run("return document.activeElement.dataset.predicted") == "5"
    page.click("[data-copy]")
    page.wait(lambda: page.run("return document.getElementById('copied').textContent"))


def test_a_model_without_a_history_shows_its_picture_or_says_so(
    browser: Chrome, site: Service
) -> None:
    page = Page(browser, f"{site.url}/demo/models/cifar10/wide").ready()
    assert "No history was recorded" in page.text("#curves")


@pytest.mark.parametrize(
    "url",
    ["/demo", "/demo?dataset=cifar10", "/demo/models", "/demo/models/mnist/lenet", "/demo/no"],
)
def test_no_page_breaks_a_rule_of_accessibility(browser: Chrome, site: Service, url: str) -> None:
    page = Page(browser, site.url + url)
    try:
        if url.startswith("/demo?") or url == "/demo":
            page.ready()
            page.drop({"a.png": SHIP, "notes.txt": b"no picture"})
            page.wait(lambda: "2 pictures" in page.text("#batch-said"))
            page.click("[data-sample]")
            page.click("#compare")
            page.click("#explain")
            page.wait(lambda: " say" in page.text("#compare-said"))
            page.wait(lambda: "The evidence" in page.text("#why-said"))
        assert page.accessibility_violations() == []
        page.emulate(dark=True)
        assert page.accessibility_violations("color-contrast") == []
    finally:
        page.emulate()


@pytest.mark.parametrize(
    "url", ["/demo", "/demo?dataset=cifar10", "/demo/models", "/demo/models/mnist/lenet"]
)
def test_a_narrow_screen_scrolls_in_one_direction(browser: Chrome, site: Service, url: str) -> None:
    page = Page(browser, site.url + url)
    page.emulate(width=NARROWEST, height=640)
    try:
        assert page.run("return document.documentElement.scrollWidth") <= NARROWEST
    finally:
        page.emulate()


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_jumps_when_the_answers_come(digits: Page, width: int) -> None:
    digits.emulate(width=width, height=900)
    corners = (
        "return [...document.querySelectorAll('.panel')].map((p) => p.getBoundingClientRect())"
        ".map((box) => [box.top + scrollY, box.height])"
    )
    before = digits.run(corners)
    draw_seven(digits)
    digits.click("#explain")
    digits.click("#compare")
    digits.wait(lambda: "The evidence" in digits.text("#why-said"))
    digits.wait(lambda: " say" in digits.text("#compare-said"))
    after = digits.run(corners)
    digits.emulate()
    assert after == before


def test_the_pages_ask_no_other_host_and_break_no_policy(photos: Page, site: Service) -> None:
    photos.click("#explain")
    photos.wait(lambda: "The evidence" in photos.text("#why-said"))
    names = photos.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(names) > 8
    assert all(name.startswith((site.url, "data:", "blob:")) for name in names), names
    assert photos.complaints() == []


@pytest.mark.skipif(
    pictures.folder() is None,
    reason=f"{pictures.VARIABLE} names no folder for the pictures of README and docs",
)
def test_the_pictures_of_the_demo_are_taken(tmp_path: Path) -> None:
    folder = pictures.folder()
    assert folder
    with running() as service:
        shown = requests.post(f"{service.url}/api/mnist/lenet", data={"sample": "seven"}).json()
        for browser in open_browser(tmp_path):
            take_demo(Page(browser, f"{service.url}/demo").ready(), folder / "demo.png")
            page = Page(browser, f"{service.url}/demo/models/mnist/lenet").ready()
            page.picture(folder / "demo-model.png")
    for name in ("demo.png", "demo-model.png"):
        pictures.record_model(folder / name, shown)


def take_demo(page: Page, path: Path) -> None:
    """Draw a seven, ask why, and keep the page down to the reason."""
    page.emulate(width=1200, height=900)
    page.click("[data-sample]")  # the first question to a new service takes longer
    page.wait(lambda: page.text("#sure").endswith("sure"))
    draw_seven(page)
    page.click("#explain")
    page.wait(lambda: "The evidence" in page.text("#why-said"))
    end = "return document.querySelector('.why').getBoundingClientRect().bottom + scrollY"
    page.picture(path, height=int(page.run(end)) + 20)
