"""What Prometheus scrapes: the numbers of the store, in its format, behind the same tokens."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from dashboard.receiver.exposition import Family, text
from dashboard.receiver.server import Receiver, make_app
from dashboard.receiver.tokens import Tokens
from harness.watch.intake.intake import Intake
from tests.harness.watch.watch_builders import LINE, Line, verdict_on

TOKEN = "a-token-that-is-long-enough"
DEPLOY = Path(__file__).parents[3] / "deploy"
HOSTILE = 'li"ne\\ with\na break 行'


@pytest.fixture
def line(tmp_path):
    made = Line(tmp_path, "old", "good")
    yield made
    made.store.close()


@pytest.fixture
def client(line):
    receiver = Receiver(Intake(line.store, line=LINE), Tokens([TOKEN]))
    with TestClient(make_app(receiver)) as opened:
        yield opened


def scrape(client, token=TOKEN):
    answer = client.get("/metrics", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    return answer.text


def series(page):
    """(name, labels without what is given) -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(page, name, **labels):
    return series(page)[(name, tuple(sorted(labels.items())))]


def observed(number, **more):
    return {
        "observation_id": f"o{number}",
        "response": "fine",
        "observed_at": datetime.now(UTC) - timedelta(seconds=1),
        **more,
    }


def test_the_page_says_what_the_store_says(line, client):
    line.store.append("watch_verdicts", [verdict_on(line.digests["good"]).row()])
    line.observe(
        *(observed(n, latency_s=n / 100, error="x" if n < 25 else None) for n in range(100))
    )
    page = scrape(client)
    of = {"line": LINE}
    assert value(page, "ratchet_line_outcome", outcome="fail", **of) == 1
    assert value(page, "ratchet_line_outcome", outcome="pass", **of) == 0
    assert value(page, "ratchet_line_alarms", state="lasting", **of) == 1
    signal = {**of, "signal": "thumbs_up", "tier": "business"}
    assert value(page, "ratchet_signal_value", **signal) == 0.5
    assert value(page, "ratchet_signal_margin_left", **signal) == pytest.approx(-0.3)
    assert value(page, "ratchet_signal_log_e_value", **signal) == pytest.approx(5.9915, abs=1e-3)
    assert value(page, "ratchet_signal_failed", **signal) == 1
    assert value(page, "ratchet_requests_per_second", **of) == pytest.approx(100 / 300)
    assert value(page, "ratchet_request_errors_ratio", **of) == 0.25
    for percentile, expected in (("50", 0.495), ("95", 0.9405), ("99", 0.9801)):
        found = value(page, "ratchet_request_latency_seconds", percentile=percentile, **of)
        assert found == pytest.approx(expected)
    digest = line.digests["good"][:12]
    assert value(page, "ratchet_line_promoted_info", digest=digest, version="2", **of) == 1


def test_the_receivers_own_counts_are_of_this_moment(client):
    scrape(client)
    headers = {"authorization": f"Bearer {TOKEN}"}
    sent = [observed(n) | {"observed_at": None} for n in range(3)] + [{"stars": 9}]
    assert client.post("/v1/observations", json=sent, headers=headers).status_code == 200
    page = scrape(client)
    assert value(page, "ratchet_receiver_observations_total", result="accepted") == 3
    assert value(page, "ratchet_receiver_observations_total", result="refused") == 1
    assert value(page, "ratchet_receiver_queue_length") == 0


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer another-one-that-is-long"}])
def test_without_a_token_nothing_is_said(client, header):
    answer = client.get("/metrics", headers=header)
    assert answer.status_code == 401
    assert "ratchet_line" not in answer.text


def test_any_name_of_a_line_is_read_back_as_it_is():
    [family] = text_string_to_metric_families(
        text([Family("ratchet_x_seconds", "Help.", [({"line": HOSTILE}, float("-inf"))])])
    )
    assert family.samples[0].labels == {"line": HOSTILE}
    assert family.samples[0].value == float("-inf")


# The rules that `promtool check metrics` holds names to; where it is installed it is asked itself.

UNITS = "ms|milliseconds|minutes|hours|days|kb|mb|mib|kilobytes|percent|s"


def faults(page):
    found = []
    for family in text_string_to_metric_families(page):
        counter = family.type == "counter"
        # The parser takes `_total` off a counter's name.
        name = family.name
        rules = {
            "help": bool(family.documentation),
            "name": re.fullmatch(r"[a-z][a-z0-9_]*", name) is not None,
            "total": counter or not name.endswith("_total"),
            "type in name": not re.search(r"(gauge|counter|summary|histogram)", name),
            "unit": not re.search(rf"_({UNITS})(_|$)", name),
            "reserved suffix": not re.search(r"_(count|sum|bucket)$", name),
            "reserved label": all(not {"le", "quantile"} & s.labels.keys() for s in family.samples),
            "samples": all(s.name == name + "_total" * counter for s in family.samples),
        }
        found += [(name, rule) for rule, kept in rules.items() if not kept]
    return found


@pytest.fixture
def full_page(line, client):
    verdict = verdict_on(line.digests["good"])
    signals = tuple(replace(signal, threshold=800.0) for signal in verdict.signals)
    line.store.append("watch_verdicts", [replace(verdict, signals=signals).row()])
    line.observe(observed(1, latency_s=1.0))
    line.store.append("runs", [{"run_id": "r", "model": "m"}])
    line.store.append(
        "verdicts",
        [
            {
                "verdict_id": "v",
                "outcome": "pass",
                "against": f"line:{LINE}",
                "candidate_run": "r",
                "detail": {},
            }
        ],
    )
    line.store.append(
        "verdict_metrics",
        [{"verdict_id": "v", "metric": "t/a", "outcome": "pass", "detail": {"mean_z": -0.04}}],
    )
    client.get("/metrics")  # turned away, and so counted
    return scrape(client)


def test_the_names_keep_promtools_rules(full_page):
    assert value(full_page, "ratchet_candidate_margin_left", line=LINE, metric="t/a") == 0.04
    assert faults(full_page) == []
    if (promtool := shutil.which("promtool")) is not None:
        done = subprocess.run(
            [promtool, "check", "metrics"], input=full_page, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")


def used(expression):
    return set(re.findall(r"ratchet_[a-z_]+", expression))


def test_the_alert_rules_ask_for_what_is_there(full_page):
    names = {name for name, _ in series(full_page)}
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))
    [group] = rules["groups"]
    for rule in group["rules"]:
        assert used(rule["expr"]) <= names, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
    said = (DEPLOY.parent / "docs" / "oncall.md").read_text("utf-8")
    assert all(f"`{rule['alert']}`" in said for rule in group["rules"])
    if (promtool := shutil.which("promtool")) is not None:
        for words in (["rules", "alerts.yml"], ["config", "--syntax-only", "scrape.yml"]):
            subprocess.run([promtool, "check", *words], cwd=DEPLOY / "prometheus", check=True)


def test_the_dashboard_asks_for_what_is_there(full_page):
    names = {name for name, _ in series(full_page)}
    board = json.loads((DEPLOY / "grafana" / "ratchet.json").read_text("utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in board["panels"]:
        for target in panel["targets"]:
            assert used(target["expr"]), panel["title"]
            assert used(target["expr"]) <= names, panel["title"]
