"""Measure the time of the demo from a stroke of the pen to the new bars.

    python -m benchmarks.demo [--strokes 40]

The program starts `python wsgi.py`, opens the demo in a headless Chromium (Debian's chromium and
chromium-driver), and draws sevens with the mouse. The page itself measures the time from the end of
a stroke to the frame that shows its bars. The output is median, 95th percentile and maximum. The
time of an empty frame on the same page, a lower bound, is printed as well.
"""

import argparse
import shutil
import statistics

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from benchmarks.serving import service

STROKES = (
    ((-0.22, -0.28), (0.0, -0.29), (0.22, -0.3)),
    ((0.22, -0.3), (0.08, 0.0), (-0.04, 0.3)),
)
EMPTY_FRAME = """
const done = arguments[0], began = performance.now();
requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
"""


def open_browser() -> webdriver.Chrome:
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        raise SystemExit("Debian's chromium and chromium-driver are needed.")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1200,1000"):
        options.add_argument(argument)
    return webdriver.Chrome(options, webdriver.ChromeService(driver))


def measure(browser: webdriver.Chrome, url: str, strokes: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds from each stroke to its bars, and those of as many empty frames."""
    browser.get(f"{url}/demo")
    wait = WebDriverWait(browser, 20, poll_frequency=0.01)
    wait.until(lambda b: b.execute_script("return document.documentElement.dataset.ready"))
    pad = browser.find_element(By.ID, "pad")
    side = pad.size["width"]
    taken, frames = [], []
    for number in range(strokes + 2):  # the first two warm up service and browser
        if number % 2 == 0:
            browser.execute_script("document.getElementById('clear').click()")
        browser.execute_script("performance.clearMeasures()")
        chain = ActionChains(browser, duration=30)
        first, *rest = ((round(x * side), round(y * side)) for x, y in STROKES[number % 2])
        chain.move_to_element_with_offset(pad, *first).click_and_hold()
        for place in rest:
            chain.move_to_element_with_offset(pad, *place)
        chain.release().perform()
        wait.until(
            lambda b: b.execute_script(
                "return document.getElementById('answer').getAttribute('aria-busy') === 'false'"
                " && performance.getEntriesByName('stroke-to-bars').length > 0"
            )
        )
        last = "return performance.getEntriesByName('stroke-to-bars').at(-1).duration"
        if number >= 2:
            taken.append(browser.execute_script(last))
            frames.append(browser.execute_async_script(EMPTY_FRAME))
    return taken, frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strokes", type=int, default=40)
    strokes = parser.parse_args().strokes
    with service() as (_, url):
        browser = open_browser()
        try:
            taken, frames = measure(browser, url, strokes)
        finally:
            browser.quit()
    for name, times in (("stroke to bars", sorted(taken)), ("an empty frame", sorted(frames))):
        late = times[int(0.95 * (len(times) - 1))]
        print(
            f"{name:16} median {statistics.median(times):6.1f} ms   95 % {late:6.1f} ms   "
            f"max {times[-1]:6.1f} ms   of {len(times)}"
        )


if __name__ == "__main__":
    main()
