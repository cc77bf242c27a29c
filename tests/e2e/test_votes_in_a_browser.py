"""Thumbs in the demo, given by somebody with a mouse or a keyboard, and counted by the service."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from models.votes import close_store, open_store, votes
from tests.e2e.chromium import Chrome, Page, open_browser
from tests.e2e.conftest import PATIENCE, ROOT, Service, running

pytestmark = pytest.mark.slow
TAB, ENTER = "\ue004", "\ue007"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Service]:
    url = f"sqlite:///{tmp_path / 'votes.db'}"
    with running(weights=ROOT / "weights/mnist/lenet", feedback=url) as service:
        yield service


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    yield from open_browser(tmp_path_factory.mktemp("downloads"))


@pytest.fixture
def page(browser: Chrome, site: Service) -> Page:
    """The demo, with the sample of a seven classified."""
    page = Page(browser, f"{site.url}/demo").ready()
    page.click("[data-sample=seven]")
    page.wait(lambda: page.find("#up").is_enabled())
    return page


def learned(site: Service) -> Any:
    return requests.get(f"{site.url}/api/mnist/lenet/learning", timeout=PATIENCE).json()


def tab_to(page: Page, wanted: str) -> None:
    for _ in range(60):
        if page.run("return document.activeElement.id") == wanted:
            return
        page.keys(TAB)
    raise AssertionError(f"{wanted} cannot be reached with the keyboard")


def test_a_thumb_up_is_counted(page: Page, site: Service) -> None:
    assert "Nobody has voted yet" in page.text("#learned")
    page.click("#up")
    page.wait(lambda: "counted" in page.text("#vote-said"))
    assert page.find("#up").get_attribute("aria-pressed") == "true"
    assert not page.find("#instead").is_displayed()
    page.wait(lambda: "1 vote so far" in page.text("#learned"))
    (version,) = learned(site)["by_version"]
    assert (version["up"], version["down"]) == (1, 0)


def test_after_a_thumb_down_the_runner_up_and_all_labels_are_offered(
    page: Page, site: Service, tmp_path: Path
) -> None:
    page.click("#down")
    page.wait(lambda: page.find("#instead").is_displayed())
    assert page.text("#runner-up") == "It is 1"  # the second bar
    options = page.run("return [...document.getElementById('right').options].map((o) => o.value)")
    assert options == ["", *"012345689"]
    page.click("#runner-up")
    page.wait(lambda: "it is 1" in page.text("#vote-said"))
    page.run(
        "const choice = document.getElementById('right'); choice.value = '4';"
        "choice.dispatchEvent(new Event('change'))"
    )
    page.wait(lambda: "it is 4" in page.text("#vote-said"))
    store = open_store(f"sqlite:///{tmp_path / 'votes.db'}")
    (vote,) = votes(store, "mnist", "lenet")
    close_store(store)
    assert (vote.label, vote.reward, vote.prediction.answer) == (4, None, 7)
    assert learned(site)["by_version"][0]["labelled"] == 1


def test_the_keyboard_alone_is_enough(page: Page, site: Service) -> None:
    tab_to(page, "down")
    page.keys(ENTER)
    page.wait(lambda: page.run("return document.activeElement.id") == "runner-up")
    page.keys(ENTER)
    page.wait(lambda: "it is 1" in page.text("#vote-said"))
    assert learned(site)["votes"] == 1


def test_another_picture_gets_another_vote(page: Page, site: Service) -> None:
    page.click("#down")
    page.wait(lambda: page.find("#instead").is_displayed())
    page.click("[data-sample=three]")
    page.wait(lambda: page.text("#label") == "3" and page.find("#up").is_enabled())
    assert not page.find("#instead").is_displayed()
    assert page.find("#down").get_attribute("aria-pressed") == "false"
    page.click("#up")
    page.wait(lambda: "2 votes so far" in page.text("#learned"))
    assert learned(site)["by_version"][0]["share_up"] == 0.5
    assert page.complaints() == []


def test_the_thumbs_pass_the_rules_of_accessibility(page: Page) -> None:
    page.click("#down")
    page.wait(lambda: page.find("#instead").is_displayed())
    assert page.accessibility_violations() == []
    for dark in (False, True):
        page.emulate(dark=dark)
        assert page.accessibility_violations("color-contrast") == []
    page.emulate(width=320, height=800)
    wide = "return document.documentElement.scrollWidth - innerWidth"
    assert page.run(wide) <= 0
    page.emulate()


def test_a_vote_that_is_refused_says_why(page: Page, site: Service) -> None:
    site.stop()
    page.click("#up")
    page.wait(lambda: "The service does not answer" in page.text("#vote-problem"))
    assert page.find("#up").get_attribute("aria-pressed") == "false"


def test_quick_votes_are_stored_in_the_order_of_the_clicks(
    page: Page, site: Service, tmp_path: Path
) -> None:
    thumbs = "const [up, down] = ['up', 'down'].map((id) => document.getElementById(id));"
    page.run(f"{thumbs} for (const thumb of [up, down, up, down, up]) thumb.click();")
    page.wait(lambda: page.find("#up").get_attribute("aria-pressed") == "true")
    wanted = "return document.getElementById('instead').hidden"
    page.wait(lambda: page.run(wanted) and learned(site)["by_version"][0]["up"] == 1)
    assert page.find("#down").get_attribute("aria-pressed") == "false"
    assert learned(site)["votes"] == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"feedback_wait": 1}, "The time for a vote about this prediction is over"),
        ({"rate_limit": "12/hour"}, "The service is busy"),
    ],
    ids=["expired", "limited"],
)
def test_a_vote_that_fails_leaves_the_thumbs_as_they_were(
    browser: Chrome, tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    url = f"sqlite:///{tmp_path / 'votes.db'}"
    weights = ROOT / "weights/mnist/lenet"
    with running(weights=weights, feedback=url, **settings) as service:
        page = Page(browser, f"{service.url}/demo").ready()
        page.click("[data-sample=seven]")
        page.wait(lambda: page.find("#up").is_enabled())

        def refused() -> bool:
            page.click("#down")
            page.wait(lambda: page.text("#vote-problem") or page.text("#vote-said"))
            return told in page.text("#vote-problem")

        page.wait(refused)
        page.click("#up")
        page.wait(lambda: told in page.text("#vote-problem"))
        assert page.find("#up").get_attribute("aria-pressed") == "false"
        assert page.text("#vote-said") in ("", "Thank you: your vote is counted.")
