"""The report in a real browser: it runs the script that sorts, and no screen is narrower than the page."""

import re
from pathlib import Path

import pytest

from tests.browser.chromium import needs_chromium, run
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


def names_after(text: str, path: Path) -> tuple[list[str], str]:
    """Names of the rows from top to bottom, and the whole document, when the browser has run the page."""
    path.write_text(text, "utf-8")
    done = run(path, (800, 600), 2000, "--dump-dom")
    done.check_returncode()
    dom = done.stdout
    return re.findall('scope="row" data-value="([a-z]+)"', dom), dom


def pressed(times: int, column: int = 1) -> str:
    """The page with a second script, which presses a heading; so its policy has to go."""
    press = f'document.querySelectorAll("thead button")[{column}].click();' * times
    return re.sub("<meta http-equiv[^>]*>", "", page()).replace("</body>", f"<script>{press}</script></body>")


@needs_chromium
@pytest.mark.slow
def test_the_policy_lets_the_script_run_and_presses_sort(tmp_path: Path) -> None:
    names, dom = names_after(page(), tmp_path / "page.html")
    assert dom.count('<button type="button">') == 14
    assert "aria-sort=" not in dom.partition("<table")[2].partition("<script")[0]
    assert names == ["base", *FIGURES]
    once, dom = names_after(pressed(1), tmp_path / "once.html")
    assert once == ["base", "high", "rank", "low", "nought", "none"]
    assert dom.count('aria-sort="descending"') == 1
    twice, dom = names_after(pressed(2), tmp_path / "twice.html")
    assert twice == ["base", "nought", "low", "rank", "high", "none"]
    assert dom.count('aria-sort="ascending"') == 1
    by_name, _ = names_after(pressed(1, column=0), tmp_path / "name.html")
    assert by_name == ["base", "high", "low", "none", "nought", "rank"]


@needs_chromium
@pytest.mark.slow
def test_a_phone_shows_the_page_without_moving_sideways(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(re.sub("<meta http-equiv[^>]*>", "", page()).replace(
        "</body>", '<script>document.title = `${document.documentElement.scrollWidth} ${innerWidth}`;'
        'parent.postMessage(document.title, "*")</script></body>'), "utf-8")  # fmt: skip
    outer = (
        '<!doctype html><body><iframe src="page.html" style="border:0;width:360px;height:600px"></iframe>'
        "<script>onmessage = event => document.body.append(`seen ${event.data}`)</script></body>"
    )
    _, dom = names_after(outer, tmp_path / "outer.html")
    assert "seen 360 360" in dom
