"""The page in a browser: it draws, answers to pointer and keyboard, prints, and loads nothing."""

import re
import zlib

import pytest
import yaml
from browser import chromium, find_chromium
from made_up_runs import config, write_run, write_spectra

from solo_frossl.compare import compare_runs, read_run
from solo_frossl.compare.page import render_page

PROGRAM = find_chromium()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome here (Debian: apt-get install chromium)"),
]
FIRST = ".chart .plot"
DRAWN = """document.readyState === 'complete' && document.querySelectorAll('.chart').length > 0
    && [...document.querySelectorAll('.chart')].every(c => c.querySelector('.main-svg') !== null)"""
LINES = f"document.querySelectorAll('{FIRST}')[0].data.filter(t => t.meta?.curve).length"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A page of three methods, one with two seeds."""
    folder = tmp_path_factory.mktemp("page")
    runs = [("frossl", 0, 1.4), ("frossl", 1, 1.3), ("barlow_twins", 0, 0.8), ("simclr", 0, 1.0)]
    folders = [write_run(folder / f"{m}-seed{s}", m, s, epochs=12, speed=speed) for m, s, speed in runs]
    read = [read_run(f, yaml.safe_load((f / "config.yaml").read_text())) for f in folders]
    (folder / "index.html").write_text(render_page(compare_runs(read)))
    return folder / "index.html"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A page of 20 methods."""
    folder = tmp_path_factory.mktemp("many")
    runs = [
        read_run(
            write_run(folder / f"m{n}", f"method_{n}", epochs=7, speed=1 + n / 9, spectra=False),
            config(f"method_{n}", 0, 7),
        )
        for n in range(20)
    ]
    (folder / "index.html").write_text(render_page(compare_runs(runs)))
    return folder / "index.html"


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with chromium(PROGRAM, tmp_path_factory.mktemp("profile") / "chromium") as browser:
        yield browser


@pytest.fixture
def browser(process, file):
    """The page, just opened; at the end it must have loaded nothing and complained of nothing."""
    process.errors.clear()
    process.requests.clear()
    process.prefer("light")
    process.resize(1400, 900)
    process.open(file)
    process.middle(FIRST)
    process.wait(DRAWN)
    yield process
    process.run("0")  # what was said so far is read with the answer
    assert process.errors == []
    assert {url.partition(":")[0] for url in process.requests} <= {"file", "data", "blob"}
    assert [url for url in process.requests if url.startswith("file:")] == [file.resolve().as_uri()]


def tooltip(browser):
    browser.wait("!document.querySelector('#tip').hidden")
    return browser.run("document.querySelector('#tip').innerText")


def checked(browser, control):
    """Tick a box of the first figure; returns the layout of its plot."""
    browser.click(f".chart [data-control={control}]")
    return browser.run(f"document.querySelector('{FIRST}').layout")


def test_hovering_tells_every_value(browser):
    browser.hover(f"{FIRST} .nsewdrag")
    text = tooltip(browser)
    assert re.search(r"epoch \d+", text)
    for method in ("FroSSL", "Barlow Twins", "SimCLR"):
        assert re.search(rf"{method} \d+\.\d\d", text)
    assert re.search(r"FroSSL \d+\.\d\d \(\d+\.\d\d to \d+\.\d\d, 2 seeds\)", text)
    values = [float(value) for value in re.findall(r"(?:FroSSL|Twins|SimCLR) (\d+\.\d\d)", text)]
    assert values == sorted(values, reverse=True)
    browser.hover("h1")
    browser.wait("document.querySelector('#tip').hidden")


def test_a_method_is_hidden_in_all_figures_by_its_button(browser):
    assert browser.run(LINES) == 3
    browser.click(".chip[data-method='1']")
    assert browser.run("document.querySelector(\".chip[data-method='1']\").ariaPressed") == "false"
    assert browser.run(LINES) == 2
    browser.middle("[data-kind=loss]")
    browser.wait("document.querySelectorAll('[data-kind=loss] .panel .main-svg').length > 0")
    assert browser.run("[...document.querySelectorAll('[data-kind=loss] .name')].map(e => e.textContent)") == [
        "FroSSL",
        "SimCLR",
    ]
    browser.click("[data-show=none]")
    assert browser.run(LINES) == 0
    browser.click("[data-show=all]")
    assert browser.run(LINES) == 3


def test_axes_can_be_logarithmic(browser):
    assert browser.run(f"document.querySelector('{FIRST}').layout.yaxis.type") == "linear"
    assert checked(browser, "logy")["yaxis"]["type"] == "log"
    assert checked(browser, "logx")["xaxis"]["type"] == "log"
    assert checked(browser, "logy")["yaxis"]["type"] == "linear"


def choose(browser, control, value, figure=".chart"):
    browser.run(
        f"(() => {{ const s = document.querySelector(\"{figure} [data-control={control}]\"); s.value = '{value}';"
        " s.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def test_another_measure_and_device_seconds_can_be_chosen(browser):
    choose(browser, "metric", "online/top5")
    assert "top-5" in browser.run(f"document.querySelector('{FIRST}').layout.yaxis.title.text")
    choose(browser, "x", "seconds")
    assert browser.run(f"document.querySelector('{FIRST}').data.at(-1).x[1]") == 200.0
    assert "top-5" in browser.run("document.querySelector('.chart figcaption').textContent")


def test_numbers_of_the_spectrum_can_be_seen_by_step(browser):
    figure = "[data-title='Condition number of embeddings']"
    assert browser.run(f'document.querySelectorAll("{figure}").length') == 1
    browser.middle(figure)
    browser.wait(f'document.querySelectorAll("{figure} .main-svg").length > 0')
    choose(browser, "x", "steps", figure)
    plot = f'document.querySelector("{figure} .plot")'
    assert browser.run(f"{plot}.layout.xaxis.title.text") == "steps"
    assert browser.run(f"{plot}.data.filter(t => t.meta?.curve).map(t => t.x.length)") == [96, 96, 96]
    assert "(" in browser.run(f"{plot}.data.find(t => t.meta?.curve).text[3]")


def test_the_papers_values_can_be_switched_off(browser):
    papers = f"document.querySelector('{FIRST}').data.filter(t => t.meta?.paper).length"
    assert browser.run(papers) == 3
    checked(browser, "papers")
    assert browser.run(papers) == 0


def test_eigenvalues_can_be_seen_of_one_method_and_of_features(browser):
    spectrum = "[data-kind=spectrum]"
    browser.middle(spectrum)
    browser.wait(f"document.querySelectorAll('{spectrum} .panel .main-svg').length > 0")
    assert browser.run(f"document.querySelectorAll('{spectrum} .panel').length") == 3
    assert browser.run(f"document.querySelector('{spectrum} .plot').data.length") == 14
    before = browser.run(f"document.querySelector('{spectrum} .plot').data[13].y.at(-1)")
    choose(browser, "source", "features", spectrum)
    assert browser.run(f"document.querySelector('{spectrum} .plot').data[13].y.at(-1)") != before
    choose(browser, "method", "2", spectrum)
    assert browser.run(f"document.querySelectorAll('{spectrum} .panel').length") == 1
    browser.click(f"{spectrum} [data-control=relative]")
    assert browser.run(f"document.querySelector('{spectrum} .plot').data[0].y.every(v => v === 1)")


def test_the_theme_is_the_systems_until_the_button_says_otherwise(browser):
    background = "getComputedStyle(document.body).backgroundColor"
    text = f"document.querySelector('{FIRST}').layout.font.color"
    light = browser.run(background), browser.run(text)
    browser.prefer("dark")
    browser.wait(f"{text} !== '{light[1]}'")
    dark = browser.run(background), browser.run(text)
    assert dark[0] != light[0]
    browser.click("#theme")
    assert (browser.run(background), browser.run(text)) == light
    browser.click("#theme")
    assert (browser.run(background), browser.run(text)) == dark


def test_the_keyboard_reaches_every_control_and_reads_a_plot(browser):
    browser.run("scrollTo(0, 0)")
    here = (
        "(() => { const e = document.activeElement; return e.id || e.dataset.control || e.className || e.tagName; })()"
    )
    reached = []
    for _ in range(60):
        browser.press("Tab")
        reached.append(browser.run(here))
    assert reached[0] == "skip"
    for control in ("theme", "print", "chip", "sort", "metric", "x", "logx", "logy", "papers"):
        assert control in reached
    assert reached.index("theme") < reached.index("chip") < reached.index("metric")
    browser.run(f"document.querySelector('{FIRST}').focus()")
    browser.press("ArrowRight")
    assert "epoch 1" in tooltip(browser)
    browser.press("ArrowRight")
    browser.wait("document.querySelector('#tip').textContent.startsWith('epoch 2')")
    browser.run("document.querySelector('.chip').focus()")
    browser.press("Enter")
    assert browser.run(LINES) == 2


def test_tables_are_sorted_by_their_titles(browser):
    column = "[...document.querySelectorAll('#table-summary tbody tr')].map(r => r.cells[3].dataset.value).map(Number)"
    browser.click("#table-summary thead tr:last-child th:nth-child(4) button")
    falling = browser.run(column)
    assert falling == sorted(falling, reverse=True)
    browser.click("#table-summary thead tr:last-child th:nth-child(4) button")
    assert browser.run(column) == falling[::-1]
    assert browser.run("document.querySelector('#table-summary th[aria-sort]').ariaSort") == "ascending"


def test_the_values_of_a_figure_can_be_read_as_a_table(browser):
    browser.click(".chart .values summary")
    browser.wait("document.querySelectorAll('.chart .values tbody tr').length === 12")
    shown = browser.run("document.querySelector('.chart .values tbody tr').textContent")
    drawn = browser.run(f"document.querySelector('{FIRST}').data.find(t => t.meta?.curve).y[0].toPrecision(4)")
    assert shown.startswith(f"1{drawn}")


def test_configurations_can_be_searched(browser):
    browser.run(
        "(() => { const i = document.querySelector('.search'); i.value = 'optimizer LR';"
        " i.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    assert (
        browser.run("document.querySelector('.search').closest('p').querySelector('output').textContent") == "4 lines"
    )
    assert (
        browser.run("[...document.querySelectorAll('.configurations pre')].map(p => p.textContent)")
        == ["model.optimizer.lr: 0.3"] * 4
    )


def test_another_accuracy_and_epoch_can_be_chosen_for_convergence(browser):
    for number, select in enumerate(("stl-10", "stl-10-rivals1")):
        browser.run(
            f"(() => {{ const s = document.querySelector('.variant[data-part=\"{select}\"]'); s.value = '{1 - number}';"
            " s.dispatchEvent(new Event('change')); })()"
        )
    shown = "[...document.querySelectorAll('[data-variant]')].filter(e => e.offsetParent).map(e => e.dataset.variant)"
    assert browser.run(shown) == ["stl-10-1", "stl-10-rivals1-0"]


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_nothing_is_wider_than_the_window(browser, width):
    browser.resize(width, 900)
    browser.wait("document.documentElement.scrollWidth <= innerWidth")
    for kind in ("curves", "spectrum", "loss"):
        browser.middle(f"[data-kind={kind}]")
        browser.wait(f"document.querySelector('[data-kind={kind}] .main-svg') !== null")
        fits = f"document.querySelector('[data-kind={kind}] .main-svg').getBoundingClientRect().right <= innerWidth"
        browser.wait(fits)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_no_name_of_a_method_is_broken_in_a_narrow_window(process, tmp_path):
    names = ("directpred", "corinfomax", "directcopy")
    runs = [read_run(write_run(tmp_path / n, n, epochs=2, spectra=False), config(n, 0, 2)) for n in names]
    (tmp_path / "index.html").write_text(render_page(compare_runs(runs)))
    process.resize(400, 900)
    process.open(tmp_path / "index.html")
    lines = """[...document.querySelectorAll('table[data-name=summary] tbody th')].map(th => {
        const range = document.createRange();
        range.selectNodeContents(th);
        const text = [...range.getClientRects()].map(r => Math.round(r.top));
        return th.textContent.trim() + ' ' + (Math.max(...text) - Math.min(...text) < 12);
    })"""
    assert process.run(lines) == ["CorInfoMax true", "DirectPred true", "DirectCopy true"]


def test_print_has_every_figure_whole_and_on_white(browser):
    browser.prefer("dark")
    browser.run(
        "addEventListener('beforeprint', () => { window.printed = [...document.querySelectorAll('.plot')].map(p =>"
        " [p.layout?.width, p.clientWidth, p.layout?.font.color]); })"
    )
    pdf = browser.pdf()
    pages = [zlib.decompress(m) for m in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.S) if m[:1] == b"\x78"]
    assert pdf.startswith(b"%PDF")
    assert sum(len(page) for page in pages) > 100_000  # lines, not pictures
    printed = browser.run("window.printed")
    assert len(printed) >= 10
    for drawn, available, ink in printed:
        assert 0 < drawn <= available <= 176 / 25.4 * 96
        assert ink == "#1a1d21"
    browser.wait("!document.documentElement.classList.contains('printing')")
    assert browser.run(f"document.querySelector('{FIRST}').layout.font.color") != "#1a1d21"


TOO_WIDE = """[...document.querySelectorAll('table')].filter(t => t.offsetParent)
    .filter(t => t.offsetWidth > Math.min(innerWidth, t.parentElement.clientWidth)).map(t => t.id)"""
LINES_OF_NAMES = """[...document.querySelectorAll('tbody th')].filter(t => t.offsetParent).map(t => {
    const range = document.createRange();
    range.selectNodeContents([...t.childNodes].find(n => n.nodeType === 3));
    return new Set([...range.getClientRects()].map(r => Math.round(r.top))).size; })"""


@pytest.fixture
def on_paper(process):
    """Opens a page as it is printed on A4."""

    def open_page(page):
        process.resize(int(186 / 25.4 * 96), 900)
        process.call("Emulation.setEmulatedMedia", media="print")
        process.open(page)

    yield open_page
    process.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("page", ["file", "many"])
def test_tables_fit_on_paper_and_names_take_few_lines(process, on_paper, request, page):
    on_paper(request.getfixturevalue(page))
    assert process.run("document.querySelectorAll('table.wide').length") >= 1
    assert process.run(TOO_WIDE) == []
    lines = process.run(LINES_OF_NAMES)
    assert len(lines) > 20
    assert 1 <= max(lines) <= 3


def test_curves_have_their_legend_on_paper_and_only_there(process, on_paper, file):
    shown = "[...document.querySelectorAll('.key')].map(k => [k.closest('.chart').dataset.kind, k.clientHeight > 0])"
    on_paper(file)
    keys = process.run(shown)
    assert {kind for kind, visible in keys if visible} == {"curves", "profile"}
    assert not [kind for kind, visible in keys if not visible and kind in ("curves", "profile")]
    process.call("Emulation.setEmulatedMedia", media="")
    assert not any(visible for _, visible in process.run(shown))


def test_tables_of_many_methods_fit_a_wide_window(process, many):
    process.resize(1400, 900)
    process.open(many)
    assert process.run("document.querySelectorAll('table.crowded').length") >= 2
    assert process.run(TOO_WIDE) == []


def test_figures_are_drawn_without_being_looked_at(process, file):
    process.resize(1400, 900)
    process.open(file)
    process.wait(DRAWN)
    assert process.run("scrollY") == 0


def test_a_choice_is_as_wide_as_its_longest_text(browser):
    cut = """[...document.querySelectorAll('.two select')].filter(s => {
        const whole = s.cloneNode(true);
        whole.style.cssText = 'position: absolute; max-width: none';
        s.parentElement.append(whole);
        const width = whole.offsetWidth;
        whole.remove();
        return s.offsetWidth < width; }).length"""
    assert browser.run("document.querySelectorAll('.two select').length") >= 8
    assert browser.run(cut) == 0


def test_a_single_epoch_and_step_have_an_axis_of_their_own(process, tmp_path):
    folder = write_run(tmp_path / "run", epochs=1, spectra=False)
    write_spectra(folder / "spectrum.bin", steps=5, every=5, steps_an_epoch=40)
    page = tmp_path / "index.html"
    page.write_text(render_page(compare_runs([read_run(folder, config("frossl", 0, 1))])))
    process.resize(1400, 900)
    process.open(page)
    for kind, tick in (("curves", "1"), ("spectrum", "0"), ("loss", "1")):
        process.wait(f"document.querySelector('[data-kind={kind}] .main-svg') !== null")
        ticks = f"document.querySelector('[data-kind={kind}] .plot').querySelectorAll('.xtick text')"
        assert process.run(f"[...{ticks}].map(t => t.textContent)") == [tick]
        points = f"document.querySelectorAll('[data-kind={kind}] .point').length"
        assert process.run(points) > 0
