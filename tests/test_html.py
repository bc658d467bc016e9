"""The page of a trace: its structure without a browser, and its behaviour in a real one (chromium, over its pipe)."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from browser import Browser, needs_browser

from kernelmodel.errors import ModelError
from properties.catalogue import find
from tests.shown import SHOWN
from verify.html import render, thumbnail
from verify.html.page import embedded
from verify.html.thumbnail import _window
from verify.html.view import view
from verify.observe.__main__ import main as observe
from verify.scenario import Scenario
from verify.trace import Start, TraceStep, boot
from verify.tracefile import KernelSpec, parse, play, record


@pytest.fixture(scope="module")
def films(documents):
    return {name: play(parse(document)) for name, document in documents.items()}


@pytest.fixture(scope="module")
def pages(films, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, film in films.items():
        (folder / f"{name}.html").write_text(render(film), encoding="utf-8")
    (folder / "holds.html").write_text(render(serialised()), encoding="utf-8")
    for cpus in (3, 4):
        (folder / f"{cpus}.html").write_text(render(side_by_side(cpus)), encoding="utf-8")
    (folder / "wide.html").write_text(render(side_by_side(8)), encoding="utf-8")
    return folder


# --- without a browser ---


class Structure(HTMLParser):
    """Elements left open, and everything that would leave the file."""

    VOID = ("meta", "link", "input", "br", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.outside, self.wrong = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.outside += [v for k, v in attrs.items() if k in ("src", "href", "action") and not v.startswith("data:")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.wrong.append(tag)


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="trace">(.*?)</script>', text, re.S)[1])


@pytest.mark.parametrize("name", SHOWN)
def test_the_page_is_one_well_formed_file_that_asks_for_nothing(films, name):
    text = render(films[name])
    structure = Structure(text)
    assert (structure.open, structure.wrong, structure.outside) == ([], [], [])
    assert len(set(structure.ids)) == len(structure.ids)
    assert "<!--@" not in text and "@import" not in text and "url(http" not in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "default-src 'none'" in text


@pytest.mark.parametrize("name", SHOWN)
def test_the_data_tell_each_step_and_each_state(films, name):
    film, data = films[name], data_of(render(films[name]))
    assert [s["text"] for s in data["steps"]] == [s.text for s in film.steps]
    assert len(data["states"]) == len(film.steps) + 1
    state = {}
    for changes, frame in zip(data["states"], film.frames, strict=True):
        state |= changes
        for cpu in frame.picture.cpus:
            assert state[f"cpu{cpu.cpu}"]["lists"] == [list(pages) for pages in cpu.lists]
            assert state[f"cpu{cpu.cpu}"]["count"] == cpu.count
    assert data["violatedAt"] == film.violation.step and not data["steps"][-1]["minor"]


def test_the_pages_that_stray_are_those_left_on_the_list(films):
    for name in ("no-force-all-cpus", "base"):
        film, data = films[name], view(films[name])
        left = [p for pages in film.frames[-1].picture.cpus[0].lists for p in pages]
        assert data["stray"] == sorted(left) and left
        moved = {p for step in data["steps"] for p, _ in step["strays"]}
        assert moved == set(left)
    assert view(films["no-mutex"])["stray"] == []


def test_the_arrows_tell_the_race(films):
    labels = {
        name: [a["label"] for a in view(film)["arrows"] if a["kind"] in ("missed", "over")]
        for name, film in films.items()
    }
    assert any(
        re.match(r"offline0 has read pcp\[0\]->count as 0; alloc\d makes it \d after", x)
        for x in labels["no-force-all-cpus"]
    )
    assert any("migratetype of block 1 as MOVABLE; offline0 makes it ISOLATE" in x for x in labels["base"])
    assert any(x.startswith("update0 writes pcp[") and "over what offline0 wrote" in x for x in labels["no-mutex"])


def test_statements_of_one_operation_stand_below_each_other(films):
    step = next(s for s in view(films["base"])["steps"] if s["tag"] == "isolate")
    assert step["lines"] == [
        [0, "spin_lock(&zone->lock)", ""],
        [1, "set_pageblock_migratetype(block 1, MIGRATE_ISOLATE)", ""],
        [1, "move_freepages_block()", ""],
        [0, "spin_unlock(&zone->lock)", ""],
    ]
    assert all(step["lines"] for film in films.values() for step in view(film)["steps"])


def test_arrows_and_spans_go_forward_in_time(films):
    for film in films.values():
        data = view(film)
        assert all(0 < a["from"] < a["to"] <= len(film.steps) for a in data["arrows"])
        assert all(s["to"] is None or s["from"] < s["to"] for s in data["spans"])


def test_work_items_have_arrows_for_queue_and_flush(films):
    data = view(films["no-mutex"])
    tags = {s["n"]: s["tag"] for s in data["steps"]}
    pairs = {(tags[a["from"]], tags[a["to"]]) for a in data["arrows"] if a["kind"] == "work"}
    assert pairs == {("queue_work", "work_begin"), ("work_end", "flush_work")}
    assert {s["phase"] for s in data["spans"] if s["kind"] == "work"} == {"queued", "running"}


def test_a_page_is_the_same_from_a_run_a_trace_and_its_json(films):
    film = films["base"]
    recorded = film.recorded()
    assert render(film) == render(recorded) == render(json.loads(json.dumps(recorded.as_json())))


def test_a_trace_that_does_not_fit_is_no_page(films):
    trace = replace(films["no-force-all-cpus"].recorded(), kernel=KernelSpec("kernel", "v5.11"))
    with pytest.raises(ModelError, match=r"the trace does not fit v5\.11: step"):
        render(trace)


def test_no_text_can_leave_its_place():
    text = embedded({"name": "</script><!--<b>&"})
    assert "<" not in text and ">" not in text and json.loads(text) == {"name": "</script><!--<b>&"}


def serialised():
    """Two tasks one after the other under one mutex, and a free that sees what the second one wrote; nothing is broken."""
    scenario, spec = Scenario(cpus=2, frees=1, allocs=0), KernelSpec("kernel", "v5.11")
    start = Start((4, 2), (1, 1), cpu_of={"offline0": 1, "update0": 0, "free0": 0}, block_of={"free0": 0})
    machine, tasks = boot(spec.load(), scenario, start)
    machine.run(tasks["update0"])
    while machine.operation(tasks["offline0"]).text != "mutex_trylock(&pcpu_drain_mutex)":
        machine.step(tasks["offline0"])
    machine.run(tasks["free0"])
    steps = [TraceStep(s.task, "", dict(s.choices), s.cpu) for s in machine.history]
    return record(spec, scenario, find("limits_exclusive"), "hand", start, steps)


def side_by_side(cpus):
    """A free on each CPU, then an offliner, as far as its drain."""
    scenario, spec = Scenario(cpus=cpus, frees=cpus, allocs=0), KernelSpec("kernel", "v5.11")
    frees = {f"free{i}": i for i in range(cpus)}
    start = Start((4, 2), (1, 1), cpu_of={"offline0": 1, **frees}, block_of=dict.fromkeys(frees, 0))
    machine, tasks = boot(spec.load(), scenario, start)
    for name in frees:
        machine.run(tasks[name])
    while machine.operation(tasks["offline0"]).text != "mutex_trylock(&pcpu_drain_mutex)":
        machine.step(tasks["offline0"])
    steps = [TraceStep(s.task, "", dict(s.choices), s.cpu) for s in machine.history]
    return record(spec, scenario, find("limits_exclusive"), "hand", start, steps)


def test_a_lock_that_changes_hands_and_a_write_that_is_seen_have_arrows():
    data = view(play(serialised()))
    labels = {a["kind"]: a["label"] for a in data["arrows"]}
    assert labels["lock"] == "pcp_batch_high_lock: update0 unlocks, offline0 gets it"
    assert labels["seen"].startswith("free0 reads pcp[0]->") and "as offline0 wrote it" in labels["seen"]
    assert "over" not in labels
    assert (data["found"], data["violatedAt"], data["stray"]) == ("", None, [])
    assert "limits_exclusive is not violated" in render(serialised())


# --- in a browser ---


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


CHOSEN = """
[document.documentElement.dataset.step, document.querySelector('.row.chosen')?.id, document.querySelector('#now').innerText]
"""


@needs_browser
@pytest.mark.parametrize("name", SHOWN)
def test_the_keyboard_goes_through_the_steps(browser, pages, films, name):
    browser.open(str(pages / f"{name}.html"), 1400, 900)
    end = len(films[name].steps)
    step, row, now = browser.run(CHOSEN)
    assert (step, row) == (str(end), f"step-{end}") and films[name].violation.found in now
    browser.key("ArrowUp")
    before, row, now = browser.run(CHOSEN)
    assert int(before) < end and row == f"step-{before}" and films[name].violation.found not in now
    browser.key("Home")
    assert browser.run(CHOSEN)[0] == "0"
    browser.key("ArrowDown")
    first = browser.run(CHOSEN)[0]
    shown = next(s["n"] for s in view(films[name])["steps"] if not s["minor"])
    assert first == str(shown)
    browser.key("ArrowRight")
    assert int(browser.run(CHOSEN)[0]) > shown
    browser.key("End")
    assert browser.run(CHOSEN)[0] == str(end)
    assert browser.complaints() == []


@needs_browser
def test_the_mouse_the_slider_and_the_address_choose_a_step(browser, pages, films):
    steps = view(films["base"])["steps"]
    shown = [s["n"] for s in steps if not s["minor"]]
    folded = next(s["n"] for s in steps if s["minor"] and s["n"] < shown[-2])
    after = next(n for n in shown if n > folded)
    browser.open(str(pages / "base.html") + f"#step={shown[2]}", 1400, 900)
    assert browser.run(CHOSEN)[0] == str(shown[2])
    browser.run(f"document.querySelector('#step-{shown[1]}').click()")
    assert browser.run(CHOSEN)[1] == f"step-{shown[1]}" and browser.run("location.hash") == f"#step={shown[1]}"
    browser.run(f"slider.value = {folded}; slider.dispatchEvent(new Event('input'))")
    assert browser.run(CHOSEN)[0] == str(folded)
    assert browser.run(f"document.querySelector('#step-{folded}').getBoundingClientRect().height") > 15
    browser.run("document.querySelector('#next').click()")
    assert browser.run(CHOSEN)[0] == str(after)
    browser.run("document.querySelector('#all').click()")
    browser.key("Home")
    browser.key("ArrowDown")
    browser.key("ArrowDown")
    assert browser.run(CHOSEN)[0] == "2" and browser.run("document.querySelectorAll('.row.minor').length") == 0
    assert browser.complaints() == []


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 820, 1100, 1400])
@pytest.mark.parametrize("name", [*SHOWN, "holds", "3", "4", "wide"])
def test_nothing_sticks_out_and_no_text_is_covered(browser, pages, name, width, dark):
    browser.open(str(pages / f"{name}.html"), width, 844, dark, phone=width == 390)
    assert browser.run("document.documentElement.scrollWidth") <= width
    for _ in range(3):
        browser.key("ArrowUp")
    assert browser.run("document.documentElement.scrollWidth") <= width
    # the underscores of a lock's name hang below its letters
    assert browser.run(
        "[...document.querySelectorAll('#under text')].every(t => t.getBoundingClientRect().left >="
        " t.previousElementSibling.getBoundingClientRect().left + 1)"
    )
    # each text lies inside the page, and no two rows' texts lie on each other
    boxes = browser.run(
        "[...document.querySelectorAll('.row:not(.minor) .cell > *')].map(e => e.getBoundingClientRect())"
        ".map(b => [b.left, b.top, b.right, b.bottom])"
    )
    assert all(left >= 0 and right <= width + 1 for left, _, right, _ in boxes)
    # "pcp->count" is not broken at its hyphen
    assert browser.run("[...document.querySelectorAll('.one')].every(e => e.getClientRects().length <= 1)")
    ordered = sorted((top, bottom) for _, top, _, bottom in boxes)
    assert all(b <= t + 1 for (_, b), (t, _) in pairwise(ordered))
    assert browser.complaints() == []


@needs_browser
@pytest.mark.parametrize("cpus", [3, 4])
def test_three_and_four_cpus_stand_side_by_side(browser, pages, cpus):
    for width in (1100, 1400):
        browser.open(str(pages / f"{cpus}.html"), width, 900)
        lefts = browser.run("[...document.querySelectorAll('.cell .who')].map(e => e.getBoundingClientRect().left)")
        assert len(set(lefts)) == cpus
    browser.open(str(pages / f"{cpus}.html"), 390, 844, phone=True)
    lefts = browser.run("[...document.querySelectorAll('.cell .who')].map(e => e.getBoundingClientRect().left)")
    assert len(set(lefts)) == 1


#: [height of the panel, of the page], whether the finding lies in it unscrolled, whether the chosen row is free of it
PANEL = """
(() => {
  const panel = document.querySelector('#state').getBoundingClientRect();
  const found = document.querySelector('#now .broken')?.getBoundingClientRect();
  const row = document.querySelector('.row.chosen').getBoundingClientRect();
  return [panel.height / innerHeight, !found || found.bottom <= innerHeight, row.bottom <= panel.top && row.top >= 0];
})()
"""


@needs_browser
@pytest.mark.parametrize("name", SHOWN)
def test_a_phone_shows_the_lanes_and_the_panel_unfolds(browser, pages, name):
    browser.open(str(pages / f"{name}.html"), 390, 844, phone=True)
    browser.key("ArrowUp")
    browser.key("End")
    height, told, free = browser.run(PANEL)
    assert height <= 0.25 and told and free
    browser.run("document.querySelector('#unfold').click()")
    height, told, free = browser.run(PANEL)
    assert 0.5 < height <= 0.75 and told and free
    assert browser.run("document.querySelector('#unfold').ariaExpanded") == "true"
    browser.run("document.querySelector('#unfold').click()")
    assert browser.run(PANEL)[0] <= 0.25
    # beside the lanes there is nothing to unfold
    browser.open(str(pages / f"{name}.html"), 1400, 900)
    assert browser.run("getComputedStyle(document.querySelector('#unfold')).display") == "none"


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_text_has_enough_contrast(browser, pages, dark):
    browser.open(str(pages / "no-force-all-cpus.html"), 1400, 1200, dark)
    found = browser.run(CONTRAST)
    assert found and all(ratio >= 4.5 for _, ratio in found), sorted(found, key=lambda f: f[1])[:8]


@needs_browser
def test_the_page_can_be_used_without_sight_of_it(browser, pages):
    browser.open(str(pages / "no-force-all-cpus.html"), 1400, 900)
    nameless = browser.run(
        "[...document.querySelectorAll('button, input, [role=listbox], aside, section')]"
        ".filter(e => !(e.getAttribute('aria-label') || e.innerText || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert nameless == []
    assert browser.run("document.querySelector('#rows').tabIndex") == 0
    assert (
        browser.run("document.querySelector('#rows').getAttribute('aria-activedescendant')") == browser.run(CHOSEN)[1]
    )
    assert browser.run("document.querySelectorAll('[aria-selected=true]').length") == 1
    assert browser.run("document.querySelector('#now').getAttribute('aria-live')") == "polite"


#: (text, contrast ratio) of every text element against the background that it stands on
CONTRAST = """
(() => {
  const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.5) return c;
    }
    return [255, 255, 255];
  };
  const styles = getComputedStyle(document.documentElement);
  const probe = document.body.appendChild(document.createElement("i"));
  const resolved = (name) => { probe.style.color = `var(${name})`; return rgb(getComputedStyle(probe).color); };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const found = [];
  for (const e of document.querySelectorAll("body *:not(script):not(style):not(svg *)")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length) continue;
    if (e.closest(":disabled")) continue;
    const grounds = e.closest(".row") ? ["--page", "--irq", "--select"].map(resolved) : [ground(e)];
    for (const g of grounds) found.push([e.textContent.slice(0, 30), ratio(rgb(getComputedStyle(e).color), g)]);
  }
  probe.remove();
  return found;
})()
"""


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_the_timeline_of_a_real_machine(browser, tmp_path, capsys, dark):
    """What was seen of Debian's kernel with a mutant is a page like any other: steps, state, keyboard, no complaint."""
    target = tmp_path / "late.html"
    assert observe(["check", str(Path(__file__).parent / "data/late.trace.gz"), "--html", str(target)]) == 1
    capsys.readouterr()
    browser.open(str(target), 1200, 800, dark)
    step, row, now = browser.run(CHOSEN)
    assert row == f"step-{step}" and "pcp->count is 23 on CPU0" in now
    assert "disabled by sh-" in browser.run("document.querySelector('#zone').innerText")
    browser.key("Home")
    browser.key("ArrowDown")
    assert "zone_pcp_disable()" in browser.run(CHOSEN)[2]
    assert browser.complaints() == []


# --- the small picture ---


@pytest.mark.parametrize("name", SHOWN)
def test_a_small_picture_has_a_line_for_each_run_of_a_task_on_a_cpu(films, name):
    svg = ET.fromstring(thumbnail(films[name]))
    steps = view(films[name])["steps"]
    changes = sum((a["task"], a["cpu"]) != (b["task"], b["cpu"]) for a, b in pairwise(steps))
    assert len([e for e in svg.iter("line") if e.get("class") == "run"]) == 1 + changes
    marks = [e for e in svg.iter() if e.tag == "circle" or e.get("class") == "stray"]
    assert len(marks) == sum(not s["minor"] or bool(s["strays"]) for s in steps)


def test_what_holds_from_the_start_is_shaded_from_the_first_step():
    shaded = ET.fromstring(_window([50.0, 90.0], {"from": 0, "to": None}, 30))
    assert (shaded.get("x"), shaded.get("width")) == ("50.0", "270.0")
