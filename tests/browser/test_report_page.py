"""The report in a real browser: it runs the script that sorts, and no screen is narrower than the page."""

from pathlib import Path

import pytest

from tests.browser.driven import Tab, browsing, needs_chromium
from zoo.output.pages import Section, document
from zoo.output.tables import Cell, Heading, Line, results

FIGURES = {"low": "1.5", "high": "12", "none": "", "rank": "2–3", "nought": "0"}


def page() -> str:
    """A page with a wide table of one baseline and some models."""
    headings = [Heading("Method"), Heading("First", "descending"), *[Heading(f"Column {i}") for i in range(12)]]
    rest = [Cell("9.876 ± 0.543", "9.876")] * 12
    lines = [Line(name, "model", [Cell(figure, figure), *rest], 1.0) for name, figure in FIGURES.items()]
    table = results("A caption.", headings, [Line("base", "baseline", [Cell("99", "99"), *rest], 1.0), *lines])
    return document("Title", "protocol", "Lead.", [Section("results", "Results", table)])


def names(tab: Tab) -> list[str]:
    """Names of the rows from top to bottom."""
    found: list[str] = tab.run("[...document.querySelectorAll('[scope=row]')].map(row => row.dataset.value)")
    return found


def directions(tab: Tab) -> list[str]:
    """How the table says it is sorted."""
    found: list[str] = tab.run("[...document.querySelectorAll('[aria-sort]')].map(head => head.ariaSort)")
    return found


@needs_chromium
@pytest.mark.slow
def test_the_policy_lets_the_script_run_and_presses_sort(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(), "utf-8")
    with browsing(path.as_uri(), tmp_path / "browser", (800, 600)) as tab:
        assert tab.run("document.querySelectorAll('thead button').length") == 14
        assert names(tab) == ["base", *FIGURES]
        assert directions(tab) == []
        tab.click("First")
        assert names(tab) == ["base", "high", "rank", "low", "nought", "none"]
        assert directions(tab) == ["descending"]
        tab.click("First")
        assert names(tab) == ["base", "nought", "low", "rank", "high", "none"]
        assert directions(tab) == ["ascending"]
        tab.click("Method")
        assert names(tab) == ["base", "high", "low", "none", "nought", "rank"]


@needs_chromium
@pytest.mark.slow
def test_a_phone_shows_the_page_without_moving_sideways(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(), "utf-8")
    with browsing(path.as_uri(), tmp_path / "browser", (800, 600)) as tab:
        tab.call("Emulation.setDeviceMetricsOverride", width=360, height=600, deviceScaleFactor=1, mobile=True)
        assert tab.run("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
