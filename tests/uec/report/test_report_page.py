"""The report's page in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import chromium, show
from tests.support.report_runs import HOSTILE, make_report_run
from uec.commands.cli import main

pytestmark = pytest.mark.e2e

CONTRAST = """
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const below = (e) => {
  if (!e) return [255, 255, 255];
  const [r, g, b, a = 1] = rgb(getComputedStyle(e).backgroundColor), under = a < 1 ? below(e.parentElement) : [0, 0, 0];
  return [r, g, b].map((c, i) => c * a + under[i] * (1 - a));
};
const words = [...document.body.querySelectorAll("*")].filter((e) => e.checkVisibility() && !/SCRIPT/.test(e.tagName)
  && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()));
return words.map((e) => {
  const [a, b] = [light(rgb(getComputedStyle(e).color)), light(below(e))].sort((x, y) => y - x);
  return [(a + .05) / (b + .05), e.tagName + "." + e.className + ": " + e.textContent.trim().slice(0, 30)];
}).sort((x, y) => x[0] - y[0])[0];
"""
"""Returns the lowest contrast ratio (WCAG 2.1) between a text and its background, and that text."""


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    runs = [make_report_run(folder / "u0"), make_report_run(folder / "u1", seed=1), make_report_run(folder / "g", "algorithm=grpo")]
    assert main(["report", *map(str, runs)]) == 0
    return folder / "report.html"


def choose(driver: Any, name: str, value: str) -> None:
    """Set a control as a user would."""
    from selenium.webdriver.support.ui import Select

    control = driver.find_element("id", name)
    if control.tag_name == "select":
        Select(control).select_by_value(value)
    elif control.get_attribute("type") == "checkbox":
        if control.is_selected() != (value == "true"):
            control.click()
    else:
        driver.execute_script("arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", control)
        control.send_keys(value)


def responses(driver: Any) -> list[str]:
    return driver.execute_script("return [...document.querySelectorAll('.response')].map((e) => e.querySelector('.chips').innerText)")


def drawn(driver: Any) -> int:
    """Return the number of visible charts with painted pixels in the colour of the first run."""
    driver.execute_script("document.getElementById('curves').scrollIntoView()")
    wait = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(), 200)))"
    driver.execute_async_script(wait)
    return driver.execute_script("""return [...document.querySelectorAll(".plot canvas")].filter((c) => {
      const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
      for (let i = 0; i < d.length; i += 4)
        if (Math.hypot(d[i] - 0x2f, d[i + 1] - 0x7e, d[i + 2] - 0xd8) < 25 && d[i + 3] > 200) return true;
      return false; }).length""")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_renders_without_errors_and_every_text_is_legible(driver: Any, page: Path, width: int, dark: bool) -> None:
    show(driver, page, width=width, dark=dark)
    assert drawn(driver) >= 2
    assert driver.execute_script("return document.documentElement.scrollWidth") == width
    ratio, text = driver.execute_script(CONTRAST)
    assert ratio >= 4.5, text
    assert driver.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches") is dark
    assert driver.get_log("browser") == []


def test_a_models_output_stays_text(driver: Any, page: Path) -> None:
    show(driver, page)
    assert driver.title == "u0, u1, g - uec report"
    assert HOSTILE in driver.execute_script("return document.querySelector('#groups').textContent")
    assert HOSTILE in driver.execute_script("return document.querySelector('#events').textContent")
    assert driver.execute_script("return document.querySelectorAll('#groups script, #events script, #events img').length") == 0


@pytest.mark.parametrize(
    ("filters", "count", "each"),
    [
        ({}, 11, ""),
        ({"kind": "regular"}, 9, "regular"),
        ({"kind": "exploration"}, 2, "exploration, T 1.2"),
        ({"kind": "replayed"}, 1, "replayed in step 4, 5"),
        ({"outcome": "right"}, 3, "right"),
        ({"outcome": "wrong", "kind": "exploration"}, 1, "wrong"),
        ({"difficult": "true"}, 4, ""),
        ({"truncated": "true"}, 1, "truncated"),
        ({"kept": "true"}, 10, "advantage"),
        ({"step": "2"}, 2, ""),
        ({"text": "PROMPT 9"}, 2, ""),
    ],
)
def test_filters_select_responses(driver: Any, page: Path, filters: dict[str, str], count: int, each: str) -> None:
    show(driver, page)
    for name, value in filters.items():
        choose(driver, name, value)
    found = responses(driver)
    assert len(found) == count
    assert all(each in text for text in found)
    assert driver.execute_script("return document.getElementById('found').innerText").startswith(f"{count} responses")
    driver.refresh()
    assert responses(driver) == found  # a reload keeps the filters


def test_tokens_are_cut_by_characters_and_coloured_by_probability(driver: Any, page: Path) -> None:
    show(driver, page)
    tokens = driver.execute_script(
        "return [...document.querySelector('.response .text').children].map((e) => [e.textContent, e.className, e.title])"
    )
    assert [token[:2] for token in tokens] == [["ab", ""], [" c", "p3"], ["\U0001f600", "p5"]]
    assert tokens[1][2] == "log-probability -1.000, probability 0.37"
    choose(driver, "colour", "")
    assert driver.execute_script("return document.querySelector('.response .text').children.length") == 0


def test_images_are_shown_and_a_missing_one_is_reported(driver: Any, page: Path) -> None:
    show(driver, page, "#text=prompt+3")
    assert driver.execute_script("const i = document.querySelector('.group img'); return [i.naturalWidth, i.naturalHeight]") == [448, 149]
    assert "image not found" in driver.execute_script("return document.querySelector('.group').innerText")


def test_the_chart_key_follows_the_axis_and_the_selected_runs(driver: Any, page: Path) -> None:
    show(driver, page, "#axis=tokens")
    assert drawn(driver) >= 2
    first = "return document.querySelector('.chart .key').innerText.replace(/\\n/g, ' ')"
    assert driver.execute_script(first) == "uec, seeds 0, 1 0.505 g 0.5"
    driver.execute_script("document.querySelector('#legend input').click()")
    assert driver.execute_script(first) == "g 0.5"
    assert drawn(driver) == 0  # no line in the first run's colour


def test_differences_between_runs_are_listed(driver: Any, page: Path) -> None:
    show(driver, page)
    cells = "return [...document.querySelectorAll('#differences tbody tr')].map((r) => [...r.cells].map((c) => c.innerText))"
    rows = driver.execute_script(cells)
    assert ["run.seed", "0", "1", "0", "0"] in rows
    assert any(row[0] == "exploration.enabled" for row in rows)
