"""The dashboard in a real Chromium: journeys of users, and text of a hostile model."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.digests import digest_of
from harness.core.types import Fingerprint, Response, Run, Score, ScoreOutcome
from harness.core.workspace import Workspace
from harness.store.runs import (
    link_responses,
    now,
    save_responses,
    save_run,
    save_samples,
    save_scores,
)
from harness.store.store import Store
from tests.dashboard.dashboard_process import dashboard, free_port

CHROMIUM = shutil.which("chromium")
HERE = Path(__file__).parents[1]
_AXES = (os.environ.get("RATCHET_AXE", ""), "node_modules/axe-core/axe.min.js")
AXE = next((Path(place) for place in _AXES if place and Path(place).is_file()), None)
"""A copy of axe-core, which checks a page's accessibility; none is fetched."""
WAIT_MS = 90_000

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)


def _server(home: Path) -> Iterator[str]:
    port = free_port()
    with dashboard(home, port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def server(demo_home: Path) -> Iterator[str]:
    yield from _server(demo_home)


@pytest.fixture(scope="module")
def hostile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("hostile") / ".ratchet"
    with Store(Workspace.at(home)) as store:
        _write_hostile(store)
        _write_hostile_service(store)
    yield from _server(home)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield found
        found.close()


class Visit:
    """One page, and every request that left this machine."""

    def __init__(self, browser: Any, server: str, **context: Any) -> None:
        self.server = server
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.left: list[str] = []
        self.page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.server, "data:", "blob:")):
            self.left.append(request.url)

    def go(self, path: str) -> None:
        self.page.goto(f"{self.server}/{path}")
        self.page.wait_for_selector("h1")
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_timeout(400)
        self.page.wait_for_selector("[data-testid=stStatusWidget]", state="detached")

    def text(self) -> str:
        return str(self.page.inner_text("[data-testid=stMain]"))


@pytest.mark.long
@pytest.mark.timeout(400)
def test_from_the_first_page_to_the_worst_sample(browser: Any, server: str) -> None:
    visit = Visit(browser, server)
    visit.go("")
    assert "demo-support-bot" in visit.text()
    visit.page.get_by_text("the verdict →").first.click()
    visit.page.wait_for_url(re.compile(r"/verdict\?verdict="))
    visit.page.get_by_text("samples, regressed first →").first.click()
    visit.page.wait_for_url(re.compile(r"/samples\?"))
    visit.page.wait_for_selector("[data-testid=stCode]")
    assert visit.left == []


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_view_breaks_or_scrolls_sideways(
    browser: Any, server: str, width: int, scheme: str
) -> None:
    from dashboard.app.navigation import VIEWS

    visit = Visit(browser, server, viewport={"width": width, "height": 900}, color_scheme=scheme)
    for view in (view for section in VIEWS.values() for view in section):
        visit.go(view if view != "overview" else "")
        visit.page.wait_for_timeout(800)
        assert visit.page.locator("[data-testid=stException]").count() == 0, view
        assert visit.page.get_by_text("TypeError").count() == 0, view
        across = "document.querySelector('[data-testid=stMain]').scrollWidth"
        assert visit.page.evaluate(across) <= width, view
    background = "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
    red = int(re.findall(r"\d+", visit.page.evaluate(background))[0])
    assert (red < 80) == (scheme == "dark")
    assert visit.left == []


@pytest.mark.long
def test_an_address_can_be_shared(browser: Any, server: str) -> None:
    first = Visit(browser, server)
    first.go("trend?metric=general%2Fperplexity&scope=demo-first&lang=zh")
    second = Visit(browser, server)
    second.page.goto(first.page.url)
    second.page.wait_for_selector("h1")
    second.settle()
    assert "趋势" in second.text()
    assert "general/perplexity" in second.text()


@pytest.mark.long
def test_a_mark_leads_on_and_back_is_one_press(browser: Any, server: str) -> None:
    visit = Visit(browser, server)
    visit.go("heatmap?scope=demo-first")
    here = visit.page.url
    title = visit.page.title()
    assert title.startswith("Heat map · ")
    _click_a_mark(visit)
    visit.page.wait_for_url(re.compile(r"/samples\?"))
    visit.settle()
    assert "metric=" in visit.page.url
    assert visit.page.title() != title
    visit.page.go_back()
    visit.settle()
    assert visit.page.url == here
    assert "Heat map" in visit.text()
    visit.page.get_by_role("link", name="Compare").click()
    visit.page.wait_for_url(re.compile("/compare"))
    visit.settle()
    visit.page.go_back()
    visit.settle()
    assert visit.page.url == here
    assert visit.left == []


@pytest.mark.long
def test_a_chinese_page_says_so(browser: Any, server: str) -> None:
    visit = Visit(browser, server)
    visit.go("trend?lang=zh")
    assert visit.page.evaluate("document.documentElement.lang") == "zh-CN"
    visit.go("trend?lang=en")
    assert visit.page.evaluate("document.documentElement.lang") == "en"


def _click_a_mark(visit: Visit) -> None:
    """The last cell of the heat map."""
    marks = "[data-testid=stVegaLiteChart] g.mark-rect.role-mark path"
    visit.page.wait_for_selector(marks, state="attached")
    visit.page.locator(marks).last.click(force=True)


@pytest.mark.long
@pytest.mark.parametrize("view", ["heatmap?scope=demo-first", "verdict", "promotions"])
def test_a_mark_is_reached_and_followed_by_keyboard(browser: Any, server: str, view: str) -> None:
    visit = Visit(browser, server, viewport={"width": 1280, "height": 1000})
    visit.go(view)
    page = visit.page
    marks = page.locator("[data-testid=stVegaLiteChart] svg [role=link]")
    marks.first.wait_for(state="attached")
    stops = page.locator("[data-testid=stVegaLiteChart] svg [tabindex='0']")
    assert stops.count() == 1, "one stop a chart, however many marks"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement instanceof SVGElement"):
            break
    said = "document.activeElement.getAttribute('aria-label')"
    first = page.evaluate(said)
    assert re.search(r"metric|version|what", first)
    if marks.count() > 1:
        page.keyboard.press("ArrowRight")
        assert page.evaluate(said) != first
        page.keyboard.press("Home")
        assert page.evaluate(said) == first
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/(samples|verdict)\?"))


@pytest.mark.long
@pytest.mark.skipif(AXE is None, reason="axe is not here: npm install axe-core, or RATCHET_AXE")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_has_a_serious_finding_of_axe(browser: Any, server: str, scheme: str) -> None:
    from dashboard.app.navigation import VIEWS

    assert AXE is not None
    visit = Visit(browser, server, viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
    found = {}
    for view in (view for section in VIEWS.values() for view in section):
        visit.go(view if view != "overview" else "")
        # Streamlit's own button, while the page is still drawn.
        visit.page.get_by_role("button", name="Stop").wait_for(state="detached")
        visit.page.evaluate(AXE.read_text(encoding="utf-8"))
        found[view] = visit.page.evaluate(
            "axe.run().then(said => said.violations"
            ".filter(one => ['serious', 'critical'].includes(one.impact))"
            ".map(one => [one.id, one.nodes.map(node => node.html.slice(0, 200))]))"
        )
    assert {view: said for view, said in found.items() if said} == {}


@pytest.mark.long
def test_exports_are_files(browser: Any, server: str) -> None:
    # The whole page in view: a menu that opens while a chart above it is still drawn stays where
    # the button was, and is then reached by no click.
    whole = {"width": 1280, "height": 3000}
    visit = Visit(browser, server, accept_downloads=True, viewport=whole)
    visit.go("trend")
    visit.page.get_by_text("Export").click()
    for name, begins in (("SVG", "<svg"), ("CSV", "\ufeffx,model"), ("Markdown", "| x | model")):
        with visit.page.expect_download() as waited:
            visit.page.get_by_role("button", name=name, exact=True).click()
        text = Path(waited.value.path()).read_text(encoding="utf-8")
        assert text.startswith(begins)


@pytest.mark.long
def test_strange_hosts_get_no_data(server: str) -> None:
    """DNS rebinding: a page of somebody else's must not read the socket that the data come by."""
    host, port = server.removeprefix("http://").split(":")
    for name, status in (("evil.example", b" 403 "), (f"localhost:{port}", b" 101 ")):
        with socket.create_connection((host, int(port)), timeout=10) as link:
            link.sendall(
                f"GET /_stcore/stream HTTP/1.1\r\nHost: {name}\r\nOrigin: http://{name}\r\n"
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert status in link.recv(200)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_thirty_hostile_outputs(browser: Any, hostile_server: str) -> None:
    from dashboard.app.navigation import VIEWS

    visit = Visit(browser, hostile_server)
    seen = ""
    inside = (
        "[data-testid=stMain] :is(script, iframe, img, object, embed, video, "
        "form:not(.vega-bindings), svg[onload])"
    )
    visit.go("samples?metric=ask%2Fexact_match&kind=all")
    for place in range(len(_hostile())):
        visit.page.wait_for_selector(f"strong:has-text('regressed · {place:02} ')")
        visit.settle()
        seen += visit.text()
        assert visit.page.evaluate("window.__ran") is None
        assert visit.page.locator(inside).count() == 0
        if place + 1 < len(_hostile()):
            visit.page.get_by_role("button", name="next →").click()
    for view in (view for section in VIEWS.values() for view in section):
        visit.go(view if view != "overview" else "")
        visit.page.wait_for_timeout(500)
        assert visit.page.evaluate("window.__ran") is None
        assert visit.page.locator(inside).count() == 0, view
        assert visit.page.locator("[data-testid=stMain] a[href*='leak.example']").count() == 0
        if view in ("watch", "trainings"):
            assert LEAK in visit.text().replace("\u2060", ""), view
    assert visit.left == []
    assert "<script>window.__ran" in seen
    assert "⟨U+202E⟩" in seen
    assert "␛[31m" in seen
    assert "characters more" in seen


@pytest.mark.long
def test_the_html_report_is_inert(browser: Any, tmp_path: Path) -> None:
    from harness.comparison.evidence import summarize
    from harness.report.html import Moved, to_html
    from harness.store.runs import require_run

    with Store(Workspace.at(tmp_path / ".ratchet")) as store:
        runs = _write_hostile(store)
        run = require_run(store, runs[1])
        moved = [Moved("ask/exact_match", t[:40], 1, 0, t, [t], [t]) for t in _hostile()]
        page = to_html(run, summarize(store, run), None, moved)
    place = tmp_path / "report.html"
    place.write_text(page, encoding="utf-8")
    visit = Visit(browser, place.parent.as_uri())
    visit.page.goto(place.as_uri())
    visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    visit.page.wait_for_timeout(500)
    assert visit.page.evaluate("window.__ran") is None
    assert visit.left == []


def _hostile() -> tuple[str, ...]:
    sys.path.insert(0, str(HERE))
    try:
        from hostile_texts import TEXTS
    finally:
        sys.path.remove(str(HERE))
    found: tuple[str, ...] = TEXTS
    return found


LEAK = "http://leak.example"


def _write_hostile_service(store: Store) -> None:
    """A line whose traffic, verdict, roll back and training are told in hostile words."""
    from dataclasses import replace

    from tests.harness.watch.watch_builders import LINE, verdict_on

    texts = _hostile()
    verdict = verdict_on("a" * 64, policy_digest=texts[3])
    signals = tuple(
        replace(verdict.signals[0], signal=text[:200], reason=text[:2_000]) for text in texts
    )
    store.append("watch_verdicts", [replace(verdict, signals=signals).row()])
    done = {"line": LINE, "action": "rolled_back", "acted": True, "actor": texts[1]}
    store.append(
        "watch_actions",
        [{**done, "action_id": f"a{i}", "reason": t[:2_000]} for i, t in enumerate(texts)],
    )
    said = {"line": LINE, "latency_s": 0.1, "observed_at": now()}
    store.append(
        "observations",
        [
            {**said, "observation_id": f"o{i}", "prompt": t, "response": t, "error": t[:2_000]}
            for i, t in enumerate(texts)
        ],
    )
    training = {"training_id": "t1", "recipe": texts[3], "line": texts[4], "config": {}}
    store.append("trainings", [{**training, "started_at": now()}])
    step = {"training_id": "t1", "attempt": 1, "loss": 1.0, "happened_at": now()}
    store.append("training_steps", [{**step, "step": place} for place in (1, 2)])
    event = {"training_id": "t1", "event": "unhealthy", "step": 2, "happened_at": now()}
    store.append("training_events", [{**event, "detail": {"why": t[:2_000]}} for t in texts])


def _write_hostile(store: Store) -> list[str]:
    """Two runs whose every name, prompt, reference and answer is hostile."""
    from harness.core.types import Sample

    texts = _hostile()
    metric = {
        "signature": "exact_match|v:1",
        "direction": "higher",
        "scale": "ratio",
        "form": "mean",
        "unit": texts[3],
        "low": 0.0,
        "high": 1.0,
        "stats": [],
        "aggregate": None,
    }
    task: dict[str, Any] = {"data": "x", "generate": {"temperature": 0.0, "responses": 1}}
    protocol = {"ask": {**task, "metrics": {"exact_match": metric}}}
    samples = [
        Sample(f"{i:02} {t[:60]}", "ask", prompt=({"role": "user", "content": t},), references=(t,))
        for i, t in enumerate(texts)
    ]
    save_samples(store, digest_of(task), samples)
    ids = []
    for side, name in enumerate((texts[3], texts[0])):
        run = Run(
            f"run{side}",
            name,
            f"{side}" * 64,
            texts[1],
            "0" * 16,
            Fingerprint(protocol, {"backend": texts[4]}, {"host": texts[5 + side]}),
            now(),
            0,
        )
        save_run(store, run, draw=0, suite_path="")
        said = [
            Response(f"{side}.{i}", sample.id, "ask", "generation", 0, 0, text)
            for i, (sample, text) in enumerate(zip(samples, texts, strict=True))
        ]
        save_responses(store, said, model_digest=run.model_digest)
        link_responses(store, run.id, said)
        scores = [
            Score(run.id, "ask", "exact_match", s.id, 0, 0, ScoreOutcome.SCORED, 1.0 - side)
            for s in samples
        ]
        save_scores(store, scores, signatures={"ask/exact_match": "exact_match|v:1"})
        ids.append(run.id)
    return ids
