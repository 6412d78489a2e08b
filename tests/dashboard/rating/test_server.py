"""The server through its door: links, terms, votes, headers, hosts, and being killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dashboard.rating.keys import Link, sign_link, workspace_key
from dashboard.rating.server import make_app
from harness.core.errors import UserError
from harness.ratings import session as ratings
from harness.ratings.votes import votes
from harness.store.store import Store

ROOT = Path(__file__).parents[3]


class Links(HTMLParser):
    """The addresses that a page's tags name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for _, value in attrs if value and "://" in value]


def fetched(page: str) -> list[str]:
    """What a browser would fetch from elsewhere for the tags of a page; texts are only data."""
    links = Links()
    links.feed(page)
    return links.found


def token(rated, session, rater, *, link=None, expires_at=2**40):
    key = workspace_key(rated.workspace.home)
    return sign_link(key, Link(session.id, rater, link or f"link-{rater}", expires_at))


@pytest.fixture
def client(rated):
    with TestClient(make_app(rated.store), base_url="http://127.0.0.1") as opened:
        yield opened


def vote(client, token, choice="left", wait=0.05):
    state = client.get(f"/r/{token}/pairs/state").json()
    time.sleep(wait)
    sent = {"ticket": state["ticket"], "choice": choice, "dwell_ms": 900}
    return client.post(f"/r/{token}/pairs/vote", json=sent)


def test_a_good_link_opens_the_page_without_a_name_in_it(rated, client):
    session = rated.session("ann")
    page = client.get(f"/r/{token(rated, session, 'ann')}")
    assert page.status_code == 200
    assert 'id="left"' in page.text
    for secret in ("zebra", "digest 0", session.contenders[0].run, "scripted"):
        assert secret not in page.text.lower()


def test_hostile_text_is_data_in_the_page(rated, client):
    session = rated.session("ann", votes=500)
    mine = token(rated, session, "ann")
    for _ in range(12):
        page = client.get(f"/r/{mine}").text
        assert "<script>window.hacked" not in page
        assert "<img src=" not in page
        block = page.split('id="data">')[1].split("</script>")[0]
        state = json.loads(block)["state"]
        if "evil.example" in state["left"]:
            assert "␛[31m" in state["left"]
            assert "⟨U+202E⟩" in state["left"]
            return
        sent = {"ticket": state["ticket"], "choice": "skip", "dwell_ms": 0}
        assert client.post(f"/r/{mine}/pairs/vote", json=sent).status_code == 200
    pytest.fail("the hostile answers were never shown")


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("tampered", "This link is not right"),
        ("other rater", "This link is not right"),
        ("never given", "This link is not right"),
        ("other session", "This link is not right"),
        ("expired", "This link has expired"),
        ("revoked", "This link was taken back"),
        ("nonsense", "This link is not right"),
    ],
)
def test_a_link_that_does_not_open_says_why(rated, client, case, said):
    session = rated.session("ann", "bo")
    good = token(rated, session, "ann")
    if case == "revoked":
        ratings.record(rated.store, session, "revoked", rater="ann", reason="left the company")
    bad = {
        "tampered": good[:-2] + ("AA" if good[-2:] != "AA" else "BB"),
        "other rater": token(rated, session, "bo", link="link-ann"),
        "never given": token(rated, session, "ann", link="link-other"),
        "other session": sign_link(
            workspace_key(rated.workspace.home), Link("no-such", "ann", "link-ann", 2**40)
        ),
        "expired": token(rated, session, "ann", expires_at=1),
        "revoked": good,
        "nonsense": "…%00.x",
    }[case]
    page = client.get(f"/r/{bad}")
    assert page.status_code == 403
    assert said in page.text
    assert client.get(f"/r/{bad}/pairs/state").status_code == 403
    assert client.post(f"/r/{bad}/pairs/vote", json={}).status_code == 403


def test_a_running_server_follows_a_revocation(rated, monkeypatch):
    monkeypatch.setattr("dashboard.rating.server.REFRESH_S", 0.05)
    session = rated.session("ann")
    mine = token(rated, session, "ann")
    with TestClient(make_app(rated.store), base_url="http://127.0.0.1") as client:
        assert client.get(f"/r/{mine}").status_code == 200
        with Store(rated.workspace) as elsewhere:
            ratings.record(elsewhere, session, "revoked", rater="ann", reason="done")
        deadline = time.monotonic() + 20
        while client.get(f"/r/{mine}").status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert client.get(f"/r/{mine}").status_code == 403


def test_terms_come_first_and_are_kept(rated, client):
    session = rated.session(consent="I give my votes away.", licence="CC-BY-4.0", min_dwell_ms=1)
    link = {"link": "link-cy", "expires_at": 2**40}
    ratings.record(rated.store, session, "invited", rater="cy", config=link)
    mine = token(rated, session, "cy")
    page = client.get(f"/r/{mine}")
    assert "I give my votes away." in page.text
    assert "CC-BY-4.0" in page.text
    assert client.get(f"/r/{mine}/pairs/state").json() == {"why": "terms"}
    agreed = client.post(f"/r/{mine}/agree")
    assert 'id="left"' in agreed.text
    assert ratings.register(rated.store, session).consented == {"cy"}
    assert vote(client, mine).status_code == 200


def test_every_answer_is_guarded(rated, client):
    session = rated.session("ann")
    for path in ("/", f"/r/{token(rated, session, 'ann')}", "/static/pairs.js", "/r/x"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in answer.headers
        if "html" in answer.headers["content-type"]:
            assert fetched(answer.text) == []
            assert "style=" not in answer.text


def test_another_name_gets_nothing(rated):
    session = rated.session("ann")
    app = make_app(rated.store)
    with TestClient(app, base_url="http://rebound.example") as stranger:
        assert stranger.get(f"/r/{token(rated, session, 'ann')}").status_code == 400


def test_speaks_chinese_to_who_reads_chinese(rated, client):
    session = rated.session("ann")
    path = f"/r/{token(rated, session, 'ann')}"
    assert "一样好" in client.get(path, headers={"accept-language": "zh-CN,zh;q=0.9"}).text
    assert "一样好" in client.get(f"{path}?lang=zh").text
    assert "Equally good" in client.get(f"{path}?lang=en", headers={"accept-language": "zh"}).text
    assert client.get(f"{path}x", headers={"accept-language": "zh"}).text.count("链接不正确") >= 1


def test_both_languages_say_the_same_things():
    from dashboard.rating.strings import WORDS

    assert set(WORDS["en"]) == set(WORDS["zh"])
    assert all(WORDS["en"].values())
    assert all(WORDS["zh"].values())


BAD = [
    {},
    {"ticket": 1, "choice": "left", "dwell_ms": 900},
    {"ticket": "x", "choice": "left", "dwell_ms": 900},
    {"ticket": "\ud800", "choice": "left", "dwell_ms": 900},
]


@pytest.mark.parametrize("sent", BAD, ids=str)
def test_what_makes_no_sense_is_refused(rated, client, sent):
    session = rated.session("ann")
    answer = client.post(
        f"/r/{token(rated, session, 'ann')}/pairs/vote",
        content=json.dumps(sent),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 422
    assert votes(rated.store, session) == []


@pytest.mark.parametrize("dwell", ["NaN", "1e999", "-5", "1" + "0" * 400, '"900"', "null", "true"])
def test_a_dwell_that_is_no_time_is_refused(rated, client, dwell):
    session = rated.session("ann")
    mine = token(rated, session, "ann")
    ticket = client.get(f"/r/{mine}/pairs/state").json()["ticket"]
    body = f'{{"ticket": "{ticket}", "choice": "left", "dwell_ms": {dwell}}}'
    kind = {"content-type": "application/json"}
    answer = client.post(f"/r/{mine}/pairs/vote", content=body, headers=kind)
    assert answer.status_code in (409, 422)
    assert votes(rated.store, session) == []


def test_a_form_of_another_site_is_refused(rated, client):
    session = rated.session("ann")
    mine = token(rated, session, "ann")
    for kind, body in (("text/plain", "{}"), ("application/json", "[" * 100_000)):
        answer = client.post(f"/r/{mine}/pairs/vote", content=body, headers={"content-type": kind})
        assert answer.status_code == 422


def test_a_vote_that_can_not_be_kept_is_not_acknowledged(rated, client, monkeypatch):
    session = rated.session("ann", min_dwell_ms=1)
    mine = token(rated, session, "ann")
    real = Store.append

    def full(self, table, rows):
        raise UserError("rows can't be appended: No space left on device")

    monkeypatch.setattr(Store, "append", full)
    assert vote(client, mine).status_code == 503
    monkeypatch.setattr(Store, "append", real)
    assert vote(client, mine).json()["progress"]["mine"] == 1


def test_the_key_is_the_owners_alone(rated):
    workspace_key(rated.workspace.home)
    path = rated.workspace.home / "rating.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(UserError, match="read by others"):
        workspace_key(rated.workspace.home)


class Server:
    """`ratchet rate serve` in a process of its own."""

    def __init__(self, rated, port=0):
        home = str(rated.workspace.home)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness", "rate", "serve", "--port", str(port), "--home", home],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        line = self.process.stdout.readline()
        assert "raters come in at" in line, line
        self.port = int(line.split("127.0.0.1:")[1].split("/")[0])

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        kind = {"content-type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), kind)
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        return answer.status, found

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(rated):
    running = []

    def start(port=0):
        running.append(Server(rated, port))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.kill()


def test_killed_in_mid_session_nothing_is_lost_or_doubled(rated, server):
    """Votes go on over two kills; each open page's ticket still counts, once."""
    session = rated.session("ann", min_dwell_ms=1, votes=100)
    mine = f"/r/{token(rated, session, 'ann')}/pairs"
    acknowledged, port = [], 0
    for _ in range(2):
        one = server(port)
        port = one.port
        status, state = one.call("GET", f"{mine}/state")
        for _ in range(3):
            time.sleep(0.01)
            sent = {"ticket": state["ticket"], "choice": "left", "dwell_ms": 900}
            status, state = one.call("POST", f"{mine}/vote", sent)
            assert status == 200
            acknowledged.append(state["last"]["id"])
        replayed = sent
        one.kill()
    last = server(port)
    status, again = last.call("POST", f"{mine}/vote", replayed)
    assert (status, again["already"]) == (200, True)
    open_page = {"ticket": state["ticket"], "choice": "tie", "dwell_ms": 900}
    status, after = last.call("POST", f"{mine}/vote", open_page)
    assert status == 200
    acknowledged.append(after["last"]["id"])
    last.kill()
    assert [v.id for v in votes(rated.store, session)] == acknowledged
    assert len(set(acknowledged)) == 7


def test_one_server_a_workspace(rated, server):
    server()
    from dashboard.rating.run import serve

    with pytest.raises(UserError, match="runs for this workspace already"):
        serve(rated.store, only=None, host="127.0.0.1", port=0, allow=[], ready=print)


def test_twenty_raters_at_once_lose_and_double_nothing(rated, client):
    """Each presses twice at once, every time; what counts is one vote a pair."""
    names = [f"rater{n}" for n in range(20)]
    session = rated.session(*names, votes=10_000, min_dwell_ms=1)
    acknowledged: list[str] = []

    def work(name):
        mine = token(rated, session, name)
        for _ in range(4):
            state = client.get(f"/r/{mine}/pairs/state").json()
            time.sleep(0.01)
            sent = {"ticket": state["ticket"], "choice": "right", "dwell_ms": 500}
            both = [client.post(f"/r/{mine}/pairs/vote", json=sent).json() for _ in range(2)]
            assert both[1]["already"]
            acknowledged.append(both[0]["last"]["id"])

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(v.id for v in votes(rated.store, session)) == sorted(acknowledged)
    assert len(acknowledged) == 80
