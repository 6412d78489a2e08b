"""Journeys of raters in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

from dashboard.rating.keys import Link, sign_link, workspace_key
from dashboard.rating.server import make_app
from harness.ratings import session as ratings
from harness.ratings.votes import votes
from tests.dashboard.rating.rating_builders import RatedRuns

pytestmark = pytest.mark.long

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Server:
    def __init__(self, rated, port=0):
        self.rated = rated
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(make_app(rated.store), log_level="error", access_log=False)
        self.uvicorn = uvicorn.Server(config)
        self.thread = threading.Thread(
            target=self.uvicorn.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self.thread.start()
        while not self.uvicorn.started:
            time.sleep(0.01)

    def url(self, session, rater, **fields):
        link = Link(session.id, rater, f"link-{rater}", fields.get("expires_at", 2**40))
        key = workspace_key(self.rated.workspace.home)
        return f"http://127.0.0.1:{self.port}/r/{sign_link(key, link)}"

    def stop(self):
        self.uvicorn.should_exit = True
        self.thread.join(10)


@pytest.fixture
def server(rated):
    running = [Server(rated)]
    yield running[0]
    running[0].stop()


@contextmanager
def rater(chromium, url, **options):
    """A browser of one's own on that page; whatever it asks of anybody else is noted."""
    context = chromium.new_context(locale="en-US", **options)
    page = context.new_page()
    page.strangers = []
    page.errors = []
    page.on(
        "request",
        lambda r: page.strangers.append(r.url) if not r.url.startswith(url[:21]) else None,
    )
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(url)
    yield page
    assert page.strangers == []
    assert page.errors == []
    context.close()


def press(page, key, *, dwell=120):
    """Look for a while, press, and wait for what comes next."""
    page.wait_for_timeout(dwell)
    before = page.locator("#mine").inner_text() + page.locator("#last").inner_text()
    shown = page.locator("#prompt").inner_text() + page.locator("#left").inner_text()
    page.keyboard.press(key)
    page.wait_for_function(
        "([counts, texts]) => {"
        " const t = (id) => document.getElementById(id).innerText;"
        " return t('mine') + t('last') !== counts || t('prompt') + t('left') !== texts }",
        arg=[before, shown],
    )


def test_two_raters_at_once_by_keyboard(rated, server, chromium):
    session = rated.session("ann", "bo", min_dwell_ms=50)
    with (
        rater(chromium, server.url(session, "ann")) as ann,
        rater(chromium, server.url(session, "bo")) as bo,
    ):
        for one, two in zip("1234", "4321", strict=True):
            press(ann, one)
            press(bo, two)
        assert "yours 4" in ann.locator("#mine").inner_text()
    found = votes(rated.store, session)
    choices = {who: [v.choice for v in found if v.rater == who] for who in ("ann", "bo")}
    assert choices["ann"] == ["left", "right", "tie", "both_bad"]
    assert choices["bo"] == ["both_bad", "tie", "right", "left"]
    assert all(50 <= v.dwell_ms < 5000 for v in found)


def test_undo_skip_comment_and_reload(rated, server, chromium):
    session = rated.session("ann", min_dwell_ms=50)
    with rater(chromium, server.url(session, "ann")) as page:
        first = page.locator("#left").inner_text()
        press(page, "1")
        press(page, "z")
        assert page.locator("#left").inner_text() == first
        press(page, "2")
        page.keyboard.press("c")
        page.keyboard.type("Shorter, and right. 1 2 3 z s")
        page.keyboard.press("Enter")
        page.locator("#comment[disabled]").wait_for()
        shown = page.locator("#left").inner_text()
        page.reload()
        assert page.locator("#left").inner_text() == shown
        assert "yours 1" in page.locator("#mine").inner_text()
        press(page, "s")
        assert page.locator("#left").inner_text() != shown
    (kept,) = votes(rated.store, session)
    assert (kept.choice, kept.comment) == ("right", "Shorter, and right. 1 2 3 z s")


def test_a_double_press_votes_once(rated, server, chromium):
    session = rated.session("ann")  # with the usual 400 ms
    with rater(chromium, server.url(session, "ann")) as page:
        page.wait_for_timeout(500)
        page.evaluate(
            "() => { for (let n = 0; n < 5; n++) document.body.dispatchEvent("
            "new KeyboardEvent('keydown', {key: '1', bubbles: true})) }"
        )
        page.locator("#mine", has_text="yours 1").wait_for()
        page.keyboard.press("1")  # on a pair seen for some milliseconds
        assert "quick" in page.locator("#toast").inner_text()
        page.wait_for_timeout(200)
    assert len(votes(rated.store, session)) == 1


def test_a_pause_does_not_count(rated, server, chromium):
    session = rated.session("ann", min_dwell_ms=50)
    with rater(chromium, server.url(session, "ann")) as page:
        page.keyboard.press("p")
        assert not page.locator("#left").is_visible()
        page.wait_for_timeout(1500)
        page.keyboard.press("1")
        page.keyboard.press("p")
        press(page, "1", dwell=200)
    (kept,) = votes(rated.store, session)
    assert kept.dwell_ms < 1200


def test_hostile_answers_are_words(rated, server, chromium):
    session = rated.session("ann", min_dwell_ms=1)
    with rater(chromium, server.url(session, "ann")) as page:
        seen = False
        for _ in range(12):
            if "evil.example" in page.locator("#left").inner_text():
                seen = True
                assert "<script>window.hacked" in page.locator("#left").inner_text()
                assert "⟨U+202E⟩" in page.locator("#right").inner_text()
                break
            press(page, "s")
        assert seen
        assert page.evaluate("window.hacked") is None
        assert page.locator("article img, article script, article a").count() == 0


def test_links_that_do_not_open(rated, server, chromium):
    session = rated.session("ann")
    for url, said in (
        (server.url(session, "ann", expires_at=1), "This link has expired"),
        (server.url(session, "ann")[:-1] + "!", "This link is not right"),
    ):
        with rater(chromium, url) as page:
            assert page.locator("h1").inner_text() == said
            assert page.locator("#left").count() == 0


def test_a_revoked_link_ends_in_mid_session(rated, server, chromium):
    session = rated.session("ann", min_dwell_ms=50)
    with rater(chromium, server.url(session, "ann")) as page:
        press(page, "1")
        ratings.record(rated.store, session, "revoked", rater="ann", reason="left")
        page.wait_for_timeout(3500)
        page.keyboard.press("1")
        page.locator("h1", has_text="This link was taken back").wait_for()
    assert len(votes(rated.store, session)) == 1


def test_a_restart_goes_unnoticed(rated, chromium):
    session = rated.session("ann", min_dwell_ms=50)
    first = Server(rated)
    with rater(chromium, first.url(session, "ann")) as page:
        press(page, "1")
        first.stop()
        page.wait_for_timeout(100)
        page.keyboard.press("2")
        page.locator("#toast", has_text="No connection").wait_for()
        again = Server(rated, first.port)
        page.locator("#mine", has_text="yours 2").wait_for()
        press(page, "3")
        again.stop()
    assert [v.choice for v in votes(rated.store, session)] == ["left", "right", "tie"]


def test_another_device_goes_on_where_the_first_was(rated, server, chromium):
    session = rated.session("ann", min_dwell_ms=50)
    url = server.url(session, "ann")
    with rater(chromium, url) as queue:
        press(queue, "1")
        shown = queue.locator("#left").inner_text()
        with rater(chromium, url, viewport={"width": 390, "height": 844}, has_touch=True) as phone:
            assert phone.locator("#left").inner_text() == shown
            phone.wait_for_timeout(120)
            phone.locator("[data-choice=right]").tap()
            phone.locator("#mine", has_text="yours 2").wait_for()
            wide = phone.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390
        queue.wait_for_timeout(100)
        queue.keyboard.press("1")  # the same pair, on the page that is out of date
        queue.locator("#toast", has_text="counted already").wait_for()
    assert [v.choice for v in votes(rated.store, session)] == ["left", "right"]


def test_the_questionnaire_by_keyboard_and_in_chinese(rated, server, chromium):
    session = rated.session(
        "ann", forms=("questions", "stars"), dimensions=("relevance", "safety"), min_dwell_ms=50
    )
    url = server.url(session, "ann")
    with rater(chromium, f"{url}/questions?lang=zh") as page:
        assert "相关性" in page.locator("#rows").inner_text()
        page.wait_for_timeout(120)
        page.keyboard.press("Enter")
        assert "请为以下维度打分" in page.locator("#toast").inner_text()
        for key in ("4", "1"):
            page.keyboard.press(key)
        page.keyboard.press("c")
        page.keyboard.type("4 of 5")
        page.keyboard.press("Enter")
        page.locator("#mine", has_text="1").wait_for()
        page.goto(f"{url}/stars")
        page.wait_for_timeout(120)
        page.keyboard.press("5")
        page.keyboard.press("Enter")
        page.locator("#mine", has_text="1").wait_for()
    rows = rated.store.query("SELECT dimension, value, comment FROM questionnaires ORDER BY seq")
    assert [tuple(row.values()) for row in rows] == [
        ("relevance", 4.0, "4 of 5"),
        ("safety", 1.0, None),
        ("stars", 5.0, None),
    ]


def test_a_phone_shows_both_answers_before_it_takes_a_vote(rated, server, chromium):
    session = rated.session("ann", min_dwell_ms=0)
    phone = {"viewport": {"width": 390, "height": 700}, "has_touch": True, "is_mobile": True}
    long = "<style>#left { min-height: 3000px }</style></head>"
    with rater(chromium, server.url(session, "ann"), **phone) as page:
        page.route("**/r/**", lambda r: r.fulfill(body=r.fetch().text().replace("</head>", long)))
        page.reload()
        page.locator("[data-choice=left]").tap()
        page.locator("#toast.shown").wait_for()
        assert "both answers" in page.locator("#toast").inner_text()
        assert votes(rated.store, session) == []
        # It was brought into view: now the vote counts.
        page.wait_for_function(
            "() => document.getElementById('right').getBoundingClientRect().top < 540"
        )
        page.locator("[data-choice=left]").tap()
        page.wait_for_function(
            "() => document.getElementById('mine').innerText.includes('yours 1')"
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert [vote.choice for vote in votes(rated.store, session)] == ["left"]


def test_arrows_vote_and_differences_are_marked_as_text(rated, server, chromium):
    session = rated.session("ann", min_dwell_ms=0)
    with rater(chromium, server.url(session, "ann")) as page:
        page.keyboard.press("d")
        # "Answer A to 3." beside "Answer B to 3.": the letters differ, and nothing else.
        marked = page.locator("#left mark, #right mark").all_inner_texts()
        assert sorted(mark.strip() for mark in marked) == ["A", "B"]
        assert page.locator("#differences").get_attribute("aria-pressed") == "true"
        press(page, "ArrowRight")
        press(page, "ArrowLeft")
        page.keyboard.press("c")
        page.locator("#reasons button").first.click()
        page.locator("#comment[disabled]").wait_for()
    found = votes(rated.store, session)
    assert [vote.choice for vote in found] == ["right", "left"]
    assert found[1].comment == "more correct"


def test_a_vote_that_waits_survives_a_page_that_is_loaded_anew(rated, chromium):
    first = Server(rated)
    session = rated.session("ann", min_dwell_ms=0)
    with rater(chromium, first.url(session, "ann")) as page:
        page.wait_for_timeout(60)
        first.stop()
        page.keyboard.press("2")
        page.locator("#toast.shown").wait_for()
        # The tab is closed while the server is down; the page is opened again when it is back.
        page.goto("about:blank")
        second = Server(rated, first.port)
        page.goto(second.url(session, "ann"))
        page.wait_for_function(
            "() => document.getElementById('mine').innerText.includes('yours 1')"
        )
        second.stop()
    assert [vote.choice for vote in votes(rated.store, session)] == ["right"]


def test_formatting_is_shown_and_can_be_taken_off(tmp_path, chromium):
    rated = RatedRuns(tmp_path, prompts=2, marked=True)
    server = Server(rated)
    session = rated.session("ann", min_dwell_ms=0)
    with rater(chromium, server.url(session, "ann")) as page:
        assert page.locator("#left strong").count() == 1
        assert page.locator("#left math msup").count() == 1
        assert page.locator("#left pre code").inner_text() == "x = 1\n"
        assert page.locator("#left a, #left img, #left script").count() == 0
        page.keyboard.press("f")
        assert page.locator("#left strong").count() == 0
        assert "**bold**" in page.locator("#left").inner_text()
        page.reload()
        assert "**bold**" in page.locator("#left").inner_text(), "the choice is kept"
    server.stop()
