"""What headless Chromium shows of a page: no error, every figure, no clipped text, enough contrast."""

import os
import shutil
from pathlib import Path

import pytest

from ffnn_gpu.report import comparison_page

playwright = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed: no page is looked at in a browser"
)
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (360, 1440)
SCHEMES = ("light", "dark")
LEAST_CONTRAST = 4.5  # of text, WCAG 2.2, success criterion 1.4.3
MEASURE = (Path(__file__).with_name("measure.js")).read_text("utf-8")


@pytest.fixture(scope="module")
def browser():
    """Return a browser."""
    with playwright.sync_playwright() as started:
        try:
            opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"Chromium cannot be started: no page is looked at in a browser ({error})")
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def files(pages, findings, tmp_path_factory):
    """Return {name: file} of pages."""
    folder = tmp_path_factory.mktemp("pages")
    chosen = {name: pages[name] for name in ("two", "fifty", "several", "ensemble", "gone")}
    chosen["comparison"] = comparison_page([findings["two"], findings["ensemble"]])
    for name, page in chosen.items():
        (folder / f"{name}.html").write_text(page, "utf-8")
    return {name: folder / f"{name}.html" for name in chosen}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_page_is_shown_whole_and_can_be_read(browser, files, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    for name, file in files.items():
        page, complaints = context.new_page(), []
        page.on("console", lambda message: complaints.append(message.text))  # noqa: B023
        page.on("pageerror", lambda error: complaints.append(str(error)))  # noqa: B023
        page.on("request", lambda r: r.url.startswith("file:") or complaints.append(r.url))  # noqa: B023
        page.goto(file.as_uri())
        found = page.evaluate(MEASURE)
        assert complaints == [], name
        assert found["figures"] > 0 or name == "gone"
        assert found["unseen"] == [] and found["clipped"] == [], (name, width)
        assert found["wide"] <= width, (name, width)
        assert [text for text in found["contrasts"] if text[0] < LEAST_CONTRAST] == [], (name, scheme)
        page.close()
    context.close()


def test_keyboard_reaches_the_content_first(browser, files):
    page = browser.new_page()
    page.goto(files["two"].as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.close()
