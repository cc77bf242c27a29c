"""A real, headless Chromium, and what the tests of pages do with it.

Importing this skips the tests, with the reason, where there is no browser.
"""

import base64
import shutil
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="the browser tests need selenium: requirements-dev.txt")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not BROWSER or not DRIVER:
    pytest.skip(
        "the browser tests need Debian's chromium and chromium-driver", allow_module_level=True
    )

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.actions.pointer_input import PointerInput  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

Chrome = webdriver.Chrome
PATIENCE = 60.0  # seconds


def open_browser(downloads: Path) -> Iterator[Chrome]:
    """A browser that keeps what it downloads in `downloads`; closed when the iterator goes on."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1200,1900")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The open page, as somebody uses it."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser = browser
        browser.get_log("browser")  # of the page before: forgotten
        browser.get(url)
        self.wait(lambda: self.run("return document.readyState") == "complete")

    def wait(self, condition: Callable[[], Any]) -> Any:
        return WebDriverWait(self.browser, PATIENCE, poll_frequency=0.02).until(
            lambda _: condition()
        )

    def ready(self) -> "Page":
        """Wait until the page's scripts listen."""
        self.wait(lambda: self.run("return document.documentElement.dataset.ready"))
        return self

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.find(selector).text)

    def click(self, selector: str) -> None:
        """Click as a mouse does, once the element is in view."""
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def stroke(self, points: list[tuple[float, float]], tool: str = "mouse") -> None:
        """Draw a line through `points`, shares of the pad's sides; by mouse, pen or touch."""
        pad = self.find("#pad")
        self.run("arguments[0].scrollIntoView({block: 'center'})", pad)
        width, height = pad.size["width"], pad.size["height"]
        places = [(round((x - 0.5) * width), round((y - 0.5) * height)) for x, y in points]
        chain = ActionChains(self.browser, duration=10, devices=[PointerInput(tool, tool)])
        chain.move_to_element_with_offset(pad, *places[0]).click_and_hold()
        for place in places[1:]:
            chain.move_to_element_with_offset(pad, *place)
        chain.release().perform()

    def keys(self, *keys: str) -> None:
        """Type, wherever the focus is."""
        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def drop(self, files: dict[str, bytes], event: str = "drop") -> None:
        """Let go of files over the page, or paste them: the event that a real drag ends with."""
        self.run(
            """
            const transfer = new DataTransfer();
            for (const [name, base64] of arguments[0]) {
              const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
              transfer.items.add(new File([bytes], name));
            }
            const bubbling = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(arguments[1] === "paste"
              ? new ClipboardEvent("paste", { clipboardData: transfer, ...bubbling })
              : new DragEvent(arguments[1], { dataTransfer: transfer, ...bubbling }));
            """,
            [(name, base64.b64encode(data).decode()) for name, data in files.items()],
            event,
        )

    def emulate(self, *, dark: bool = False, width: int = 0, height: int = 0) -> None:
        """Another colour scheme and screen; without a width, the window's own."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        if width:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        else:
            self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def complaints(self) -> list[str]:
        """What the browser's console has of faults and of refusals by the page's policy."""
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def picture(self, path: Path, height: int | None = None) -> None:
        """Keep the page, or the first `height` pixels of it, as a PNG."""
        width, whole = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": height or whole, "scale": 1}
        shot = self.browser.execute_cdp_cmd(
            "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
        )
        path.write_bytes(base64.b64decode(shot["data"]))

    def accessibility_violations(self, *rules: str) -> list[str]:
        """What axe-core's rules of WCAG A and AA, and its best practices, find wrong.

        With `rules`, only those are asked.
        """
        self.run(resources.files("axe_core_python").joinpath("axe.min.js").read_text())
        found = self.browser.execute_async_script(
            """
            const [rules, done] = arguments, options = { resultTypes: ["violations"] };
            if (rules.length) options.runOnly = rules;
            axe.run(options).then((results) => done(results.violations));
            """,
            rules,
        )
        return [
            f"{rule['id']}: {rule['help']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for rule in found
            for node in rule["nodes"]
        ]
