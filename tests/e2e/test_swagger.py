"""Swagger UI in a real browser: "Try it out", "Execute", and there is an answer."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests

from tests.e2e import pictures
from tests.e2e.chromium import By, Chrome, WebDriverWait, WebElement, open_browser
from tests.e2e.conftest import PATIENCE, ROOT, Service


@pytest.fixture(scope="module")
def browser(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Closed before the service, which when it stops waits for whoever is connected."""
    yield from open_browser(tmp_path_factory.mktemp("downloads"))


def find(browser: Chrome, selector: str) -> WebElement:
    """The first such element of the page, once it is there."""
    return WebDriverWait(browser, PATIENCE).until(
        lambda browser: browser.find_element(By.CSS_SELECTOR, selector)
    )


class Operation:
    """One operation of the open page, by its operation id."""

    def __init__(self, browser: Chrome, tag: str, name: str) -> None:
        self.browser = browser
        self.root = f"#operations-{tag}-{name}"
        self.find(".opblock-summary").click()
        self.find(".try-out__btn").click()

    def find(self, selector: str) -> WebElement:
        """The first such element of the operation, once it is there."""
        return find(self.browser, f"{self.root} {selector}")

    def execute(self) -> dict[str, object]:
        """Press the button; the answer as JSON."""
        self.find(".execute").click()
        status = self.find(".live-responses-table tbody .response-col_status").text
        text = self.find(".live-responses-table tbody .highlight-code").text
        assert status.startswith("200"), text
        content: dict[str, object] = json.loads(text[text.index("{") : text.rindex("}") + 1])
        return content

    def show(self) -> None:
        """Scroll to the beginning of the operation."""
        summary = self.find(".opblock-summary")
        self.browser.execute_script("arguments[0].scrollIntoView()", summary)

    def clear(self) -> None:
        self.find(".btn-clear").click()
        WebDriverWait(self.browser, PATIENCE).until_not(
            lambda b: b.find_elements(By.CSS_SELECTOR, f"{self.root} .live-responses-table")
        )


@pytest.mark.parametrize(
    ("tag", "name"), [("mnist", "classify_mnist_lenet"), ("predict", "predict")]
)
def test_try_it_out_and_execute_answers_at_once_and_then_for_a_file(
    browser: Chrome, service: Service, tag: str, name: str
) -> None:
    browser.get(service.url)
    operation = Operation(browser, tag, name)
    sample = operation.find("tr[data-param-name=sample] select").get_attribute("value")
    answer = operation.execute()
    (prediction,) = answer["predictions"]
    assert prediction["filename"] == f"{sample}.png"
    if name == "classify_mnist_lenet" and (folder := pictures.folder()):
        operation.show()
        browser.save_screenshot(str(folder / "swagger.png"))
        pictures.record_model(folder / "swagger.png", answer)
    operation.clear()
    three: Path = ROOT / "app/static/samples/mnist/three.png"
    operation.find("input[type=file]").send_keys(str(three))
    (prediction,) = operation.execute()["predictions"]
    assert (prediction["filename"], prediction["label"]) == ("three.png", "3")


def test_the_architectures_are_compared_at_once(browser: Chrome, service: Service) -> None:
    browser.get(service.url)
    operation = Operation(browser, "mnist", "compare_mnist")
    sample = operation.find("tr[data-param-name=sample] select").get_attribute("value")
    answer = operation.execute()
    results = answer["results"]
    assert isinstance(results, list)
    assert {result["prediction"]["filename"] for result in results} == {f"{sample}.png"}


def test_the_page_asks_no_other_host(browser: Chrome, service: Service) -> None:
    browser.get(service.url)
    names = browser.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert names
    assert all(name.startswith((service.url, "data:")) for name in names), names


def test_the_operations_are_grouped_by_data_set_in_order(browser: Chrome, service: Service) -> None:
    browser.get(service.url)
    WebDriverWait(browser, PATIENCE).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, ".opblock-tag-section")
    )
    groups = browser.execute_script(
        "return [...document.querySelectorAll('.opblock-tag')].map((tag) => tag.dataset.tag)"
    )
    spec = requests.get(f"{service.url}/swagger.json", timeout=PATIENCE).json()
    assert groups == [tag["name"] for tag in spec["tags"]]


@pytest.mark.slow
def test_authorize_takes_the_key_that_the_service_asks_for(
    start: Callable[..., AbstractContextManager[Service]], tmp_path: Path
) -> None:
    keys = tmp_path / "keys.txt"
    make = [sys.executable, "-m", "app.new_key", "alice", "--file", str(keys)]
    made = subprocess.run(make, cwd=ROOT, check=True, capture_output=True, text=True)
    with start(keys=keys) as service:
        for browser in open_browser(tmp_path):  # closed before the service
            browser.get(service.url)
            operation = Operation(browser, "predict", "predict")
            with pytest.raises(AssertionError, match="missing_key"):
                operation.execute()
            operation.clear()
            find(browser, ".btn.authorize").click()
            find(browser, ".auth-container input").send_keys(made.stdout.strip())
            find(browser, ".auth-container .btn.authorize").click()
            find(browser, ".auth-container .btn-done").click()
            assert operation.execute()["predictions"]
