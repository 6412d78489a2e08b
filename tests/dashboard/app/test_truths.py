"""Stories whose pages once said something untrue, played through the store and read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from streamlit.testing.v1 import AppTest

from harness.comparison.evidence import metric_scores
from harness.comparison.verdict_log import keep_verdict
from harness.core.digests import digest_of
from harness.core.workspace import HOME_VARIABLE, Workspace
from harness.gate.decision import decide
from harness.gate.policy import GatePolicy, MetricPolicy
from harness.store.runs import require_run
from harness.store.store import Store
from tests.dashboard.app.stories import happened, judged, opened, scored, tables, text_of

RIGHT, WRONG = [1.0] * 60, [0.0] * 60


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "bakery" / ".ratchet"))
    with Store(Workspace.at().ensure()) as store:
        yield store


def _vote(
    session: str, rater: str, pair: str, choice: str, purpose: str = "plain"
) -> dict[str, str]:
    return {
        "vote_id": f"{session}.{rater}.{pair}.{purpose}",
        "session_id": session,
        "rater": rater,
        "rater_kind": "human",
        "pair_id": pair,
        "purpose": purpose,
        "task": "ask",
        "sample_id": pair,
        "left_key": "k0",
        "right_key": "k1",
        "left_model": "d0",
        "right_model": "d1",
        "choice": choice,
        "dimension": "preference",
    }


def test_sessions_are_not_mixed(store: Store) -> None:
    """Pair ids count from 0 in every session: two sessions' votes on `0.0.1` are of two pairs."""
    config = {"rules": {"title": "Spring", "votes": 40}, "contenders": []}
    store.append(
        "rating_sessions",
        [
            {"session_id": name, "event": "created", "config": config | {"rules": rules}}
            for name, rules in (
                ("spring", {"title": "Spring", "votes": 40}),
                ("autumn", {"title": "Autumn", "votes": 60}),
            )
        ],
    )
    pairs = [f"{n}.0.1" for n in range(4)]
    store.append("votes", [_vote("spring", "ana", pair, "left") for pair in pairs])
    store.append("votes", [_vote("autumn", "bo", pair, "right") for pair in pairs])
    store.append("votes", [_vote("autumn", "bo", f"g{n}", "tie", "gold") for n in range(3)])
    store.append("votes", [_vote("autumn", "bo", pair, "tie", "repeat") for pair in pairs])

    app = opened("humans")
    said = text_of(app)
    assert "agreement" not in said, "no pair was judged twice within a session"
    assert "4 votes on 4 pairs" in said
    assert "7 more on known or repeated pairs" in said
    assert "ties and both bad 0%" in said
    assert "bo" in said
    assert "ana" not in said
    assert app.get("progress")[0].proto.text == "4 of 60 votes"
    assert "ana" in text_of(opened("humans", session="spring"))


def test_a_metric_that_was_nothing_before_is_drawn(store: Store, tmp_path: Path) -> None:
    """From 0 to 1 with an allowance of 5% of 0: the row is there, at the edge."""
    from dashboard.app.views.verdict import forest_rows
    from dashboard.queries import history
    from harness.cli.app import main

    scored(store, "before", {"match": WRONG, "length": [10.0 + n for n in range(60)]})
    scored(store, "after", {"match": RIGHT, "length": [10.0 + n for n in range(60)]})
    shown = history.verdict(store, judged(store, "before", "after"))
    assert shown is not None
    rows = forest_rows(shown.verdict).set_index("metric")
    assert rows.loc["ask/match", "at"] == float("inf")
    assert rows.loc["ask/length", "at"] == 0
    back = history.verdict(store, judged(store, "after", "before"))
    assert back is not None
    assert forest_rows(back.verdict).set_index("metric").loc["ask/match", "at"] == pytest.approx(
        -20
    )
    assert main(["report", "after", "--html", "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert ">ask/match</text>" in page
    assert "→</text>" in page


def _collapse(store: Store) -> None:
    """Checkpoint-0 knows nothing, step 10 all, step 20 nothing again, and then all."""
    store.append("trainings", [{"training_id": "t", "recipe": "r", "line": "bot", "config": {}}])
    scored(store, "s0", {"match": WRONG}, training="t", step=0)
    scored(store, "s10", {"match": RIGHT}, training="t", step=10)
    verdict = judged(store, "s0", "s10", "crest", "t", 10)
    happened(
        store,
        "t",
        ("started", 0, 0, {}),
        ("checkpoint", 0, 0, {}),
        ("checkpoint", 10, 0, {}),
        ("verdict", 10, 0, {"against": "crest", "outcome": "pass", "verdict_id": verdict}),
        ("crest", 10, 0, {"why": "better"}),
    )
    scored(store, "spoiled", {"match": WRONG}, training="t", step=20)
    failed = judged(store, "s10", "spoiled", "crest", "t", 20)
    scored(store, "s20", {"match": RIGHT}, training="t", step=20)
    passed = judged(store, "s10", "s20", "crest", "t", 20)
    happened(
        store,
        "t",
        ("checkpoint", 20, 0, {}),
        ("verdict", 20, 0, {"against": "crest", "outcome": "fail", "verdict_id": failed}),
        ("rolled_back", 20, 0, {"to": 10, "remedy": "skip_data", "verdicts": [failed]}),
        ("checkpoint", 20, 1, {}),
        ("verdict", 20, 1, {"against": "crest", "outcome": "pass", "verdict_id": passed}),
        ("finished", 20, 1, {}),
    )


def test_the_heat_map_shows_a_collapse_to_where_it_began(store: Store) -> None:
    from dashboard.app.views.heatmap import column_names
    from dashboard.queries import history

    _collapse(store)
    app = opened("heatmap", scope="t")
    (table,) = tables(app)
    margins = table.set_index("run")["margins"]
    assert margins["spoiled"] == "\N{MINUS SIGN}20.00"
    assert margins["s20"] == "0.000"
    assert all("samples?a=" in lead for lead in table["leads"])
    names = column_names(history.runs_of(store, "story", "t"), by_step=True)
    assert list(names.values()) == ["0", "10", "20 ✗", "20 (2)"]
    (table,) = tables(opened("heatmap", scope="t", held="anchor"))
    margins = table.set_index("run")["margins"]
    assert margins["spoiled"] == "0.000", "checkpoint-0 knew nothing either"


@pytest.mark.parametrize(
    ("view", "params"),
    [
        ("verdict", {"verdict": "v-gone"}),
        ("compare", {"a": "run-gone"}),
        ("compare", {"b": "run-gone"}),
        ("samples", {"a": "s0", "b": "run-gone"}),
        ("samples", {"a": "s0", "b": "s10", "metric": "ask/gone"}),
        ("trainings", {"training": "t-gone"}),
        ("trend", {"metric": "ask/gone"}),
        ("trend", {"suite": "gone"}),
        ("heatmap", {"scope": "gone"}),
    ],
)
def test_a_dead_link_names_what_is_gone(store: Store, view: str, params: dict[str, str]) -> None:
    _collapse(store)
    app = opened(view, **params)
    gone = next(value for value in params.values() if "gone" in value)
    (warning,) = app.warning
    assert gone in str(warning.value).replace("\\", "")
    assert not app.dataframe, "something else is shown in its place"
    assert not tables(app)
    assert not app.metric


def test_runs_of_two_suites_are_not_compared(store: Store) -> None:
    scored(store, "here", {"match": RIGHT})
    scored(store, "there", {"match": RIGHT}, suite="another")
    app = opened("compare", a="here", b="there")
    assert "nothing to compare" in str(app.warning[0].value)
    assert not tables(app)


def test_compare_says_that_two_were_asked_in_other_tokens(store: Store) -> None:
    for run, asked in (("base", "bytes:1"), ("tuned", "bytes:2"), ("other", "words:1")):
        scored(store, run, {"match": RIGHT})
        key = {"key": f"key-{run}", "kind": "generation", "text": "x"}
        store.append("responses", [{**key, "asked": asked, "prompt": f"Hello, {run}"}])
        link = {"run_id": run, "task": "ask", "sample_id": "s000", "kind": "generation"}
        store.append("run_responses", [{**link, "response_index": 0, "key": key["key"]}])
    app = opened("compare", a="base", b="tuned")
    (warning,) = [str(box.value).replace("\\", "") for box in app.warning]
    assert "the gate would not compare these two" in warning
    assert "1 of 1 samples were asked in other tokens" in warning
    assert "anchor 'base', candidate 'tuned'" in warning
    app = opened("compare", a="base", b="other", lang="zh")
    assert not app.warning
    assert "两个模型的词表不同" in text_of(app)


def test_compare_says_what_both_are_and_what_differs(store: Store) -> None:
    values = [10.0 + n for n in range(60)]
    scored(store, "base", {"match": WRONG, "length": values}, subject={"backend": "hf"})
    config = {"stages": [{"steps": 8, "learning_rate": 0.001}]}
    store.append("trainings", [{"training_id": "t", "recipe": "r", "config": config}])
    scored(
        store,
        "tuned",
        {"match": RIGHT, "length": [value + 0.01 for value in values]},
        training="t",
        step=8,
        subject={"backend": "hf"},
    )
    app = opened("compare", a="base", b="tuned")
    said = text_of(app)
    assert "training.stages.1.learning_rate: None -> 0.001" in said
    assert "step: None -> 8" in said
    (table,) = [table.set_index("metric") for table in tables(app)]
    assert (table.loc["ask/match", "A"], table.loc["ask/match", "B"]) == ("0.000", "1.000")
    assert table.loc["ask/match", "fixed"] == "60"
    # A hundredth of a character more is not worse by anything that the gate would look at.
    assert table.loc["ask/length", "regressed"] == "0"
    assert table.loc["ask/length", "same"] == "60"


def test_the_tab_and_the_page_name_the_workspace(store: Store) -> None:
    from dashboard.app.filters import workspace_name

    _collapse(store)
    app = opened("trend", lang="zh")
    assert workspace_name() == "bakery"
    assert any("bakery" in str(part.value) for part in app.sidebar.markdown)


def test_a_workspace_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    from harness.cli.app import main

    home = tmp_path / "typo" / ".ratchet"
    assert main(["dashboard", "--home", str(home)]) == 3
    assert not home.exists()


def test_a_locked_store_says_so_in_the_readers_language(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.core.errors import UserError

    def held(*_: object) -> None:
        raise UserError(
            "the store is held by trainer (PID 12); waited 5 s",
            hint="end that program or let it finish; rows appended meanwhile are safe",
        )

    monkeypatch.setattr(Store, "query", held)
    app = opened("overview", lang="zh")
    assert app.error[0].value.replace("\\", "") == "存储被 trainer (PID 12) 占用，已等待 5 秒"
    assert "期间写入的数据不会丢失" in app.text[0].value
    monkeypatch.undo()
    monkeypatch.setenv(HOME_VARIABLE, str(store.workspace.home))
    (again,) = [button for button in app.button if button.label == "重试"]
    again.click().run()
    assert not app.error


def test_a_slice_of_a_verdict_leads_to_the_samples_of_that_slice(store: Store) -> None:
    runs = [scored(store, name, {"match": values}) for name, values in (("a", RIGHT), ("b", WRONG))]
    languages = {f"s{place:03}": "zh" if place % 3 else "en" for place in range(len(RIGHT))}
    sample = {"task_digest": digest_of({"data": "d"}), "task": "ask", "prompt": []}
    store.append(
        "samples",
        [{**sample, "sample_id": name, "language": own} for name, own in languages.items()],
    )
    policy = GatePolicy(metrics={"ask/match": MetricPolicy(required=True, by="language")})
    sides = [
        metric_scores(store, require_run(store, run), policy=policy, slices={"language": languages})
        for run in runs
    ]
    verdict = keep_verdict(store, "anchor", "a", "b", decide(sides[0], sides[1], policy))
    (table,) = tables(opened("verdict", verdict=verdict))
    leads = dict(zip(table["metric"], table["leads"], strict=True))
    assert set(leads) >= {"ask/match[en]", "ask/match[zh]"}
    for language in ("en", "zh"):
        asked = dict(parse_qsl(urlsplit(leads[f"ask/match[{language}]"]).query))
        assert asked["slice"] == f"language:{language}"
        (listed,) = [frame.value for frame in opened("samples", **asked).dataframe]
        assert set(listed["slice"]) == {language}
        assert len(listed) == list(languages.values()).count(language)


def test_pairs_are_gathered_into_a_file_for_raters(demo: Store) -> None:
    rows = demo.query("SELECT anchor_run, candidate_run FROM verdicts WHERE outcome = 'fail'")
    asked = {"a": rows[0]["anchor_run"], "b": rows[0]["candidate_run"]}
    app = opened("samples", **asked, metric="intents/json_match")
    first = json.loads(_gold(app))
    app.segmented_control(key="gold.better").set_value("A").run()
    second = json.loads(_gold(app))
    assert (second["better"], second["worse"]) == (first["worse"], first["better"])
    app.button(key="gold.add").click().run()
    app.button(key="step.j").click().run()
    app.button(key="gold.add").click().run()
    kept = [json.loads(line) for line in app.session_state["gold"].values()]
    assert kept[0] == second
    assert len(kept) == 2
    assert all(set(line) == {"prompt", "better", "worse"} for line in kept)


def _gold(app: AppTest) -> str:
    return next(str(block.value) for block in app.code if '"better"' in str(block.value))
