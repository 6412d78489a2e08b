"""Generate, score, store: each stage can run alone, and no work is done twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.backends.base import Candidate, Generation
from harness.backends.scripted import ScriptedBackend
from harness.comparison.evidence import metric_scores, summarize
from harness.core.errors import UserError
from harness.core.types import ScoreOutcome
from harness.evaluation.plan import Extent, Scoring, seed_of
from harness.evaluation.runner import missing_answers, rescore, score
from harness.store import runs
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite_builders import CAPITALS, scripted, suite_yaml, write_jsonl

WRITTEN = 5 + 15  # exact match, three talks each
READ = 5 + 5  # reference NLL, texts


def values(store: Store, run: Any) -> dict[str, float | None]:
    return {line.metric: line.estimate.value for line in summarize(store, run)}


def test_a_run_scores_every_sample_of_every_metric(tmp_path: Path, store: Store) -> None:
    candidate, backend = scripted()
    report = score(candidate, load_suite(suite_yaml(tmp_path)), store)
    assert (report.generated, report.read) == (WRITTEN, READ)
    assert report.fresh == backend.calls == WRITTEN + READ
    found = values(store, report.run)
    assert found["ask/exact_match"] == 1.0
    # The scripted answers do not depend on the seed, so the three talks are copies.
    assert found["talk/self_bleu"] == pytest.approx(1.0)
    assert found["read/perplexity"] is not None
    counts = [line.counts for line in summarize(store, report.run)]
    assert all(count.scored == count.total == 5 for count in counts)


def test_answers_that_say_nothing_are_counted_beside_the_value(
    tmp_path: Path, store: Store
) -> None:
    candidate, _ = scripted({**CAPITALS, "Peru": "<think>Lima, surely.</think>"})
    report = score(candidate, load_suite(suite_yaml(tmp_path)), store)
    found = {line.metric: line for line in summarize(store, report.run)}
    asked = found["ask/exact_match"]
    assert asked.estimate.value == 0.8
    assert (asked.counts.scored, asked.counts.unscored, asked.counts.noted) == (5, 0, 1)
    assert "cut in its thought" in asked.counts.notes[0][1]
    assert found["read/perplexity"].counts.noted == 0


def test_a_second_score_generates_nothing_and_adds_nothing(tmp_path: Path, store: Store) -> None:
    suite = load_suite(suite_yaml(tmp_path))
    candidate, _ = scripted()
    first = score(candidate, suite, store)

    def closed() -> ScriptedBackend:
        raise AssertionError("the model was opened")

    again = score(replace(candidate, open=closed), suite, store)
    assert (again.run.id, again.fresh, again.scored) == (first.run.id, 0, 0)
    assert len(runs.load_scores(store, first.run.id)) == 5 * 4


def test_a_model_of_other_bytes_shares_no_answers(tmp_path: Path, store: Store) -> None:
    suite = load_suite(suite_yaml(tmp_path))
    candidate, backend = scripted()
    score(candidate, suite, store)
    other = score(replace(candidate, digest="other bytes"), suite, store)
    assert other.fresh == WRITTEN + READ
    assert backend.calls == 2 * (WRITTEN + READ)


@pytest.mark.parametrize("what", ["dtype", "backend"])
def test_another_subject_does_not_share_answers(tmp_path: Path, store: Store, what: str) -> None:
    suite = load_suite(suite_yaml(tmp_path))
    candidate, _ = scripted()
    first = score(candidate, suite, store)
    other = score(replace(candidate, subject={**candidate.subject, what: "x"}), suite, store)
    assert other.fresh == WRITTEN + READ
    assert other.run.id != first.run.id


def test_a_crash_resumes_where_it_was(tmp_path: Path, store: Store) -> None:
    suite = load_suite(suite_yaml(tmp_path))
    candidate, backend = scripted()

    class Dies(ScriptedBackend):
        def generate(self, requests: Sequence[Any], settings: Any) -> Any:
            for number, answer in enumerate(super().generate(requests, settings)):
                if number == 3:
                    raise KeyboardInterrupt
                yield answer

    dying = Dies(CAPITALS)
    with pytest.raises(KeyboardInterrupt):
        score(replace(candidate, open=lambda: dying), suite, store)
    report = score(candidate, suite, store)
    assert report.reused == 3
    assert backend.calls == WRITTEN + READ - 3
    events = store.query("SELECT event FROM run_events WHERE run_id = ?", [report.run.id])
    assert {row["event"] for row in events} == {"interrupted", "finished"}
    # Nothing of the interruption shows in the numbers.
    fresh = score(replace(candidate, digest="another"), suite, store)
    assert values(store, fresh.run) == values(store, report.run)


def test_an_error_is_a_row_with_a_reason_and_is_asked_again(tmp_path: Path, store: Store) -> None:
    suite = load_suite(suite_yaml(tmp_path))
    broken: dict[str, Any] = {**CAPITALS, "Peru": RuntimeError("out of memory")}
    candidate, _ = scripted(broken)
    report = score(candidate, suite, store)
    assert report.failed == 1 + 3
    row = next(
        s
        for s in runs.load_scores(store, report.run.id)
        if s.metric == "exact_match" and s.sample_id == "Peru"
    )
    assert row.outcome is ScoreOutcome.ERROR
    assert row.value is None
    assert "out of memory" in str(row.reason)
    line = next(x for x in summarize(store, report.run) if x.metric == "ask/exact_match")
    assert (line.counts.scored, line.counts.total, line.counts.errors) == (4, 5, 1)
    # Asked again once the trouble is over, the same run becomes whole.
    healed, _ = scripted()
    again = score(healed, suite, store)
    assert again.fresh == 4
    assert values(store, again.run)["ask/exact_match"] == 1.0


class Timed(ScriptedBackend):
    """A quarter of a second to the first token of every answer."""

    def generate(self, *asked: Any) -> Iterator[Generation]:
        for answer in super().generate(*asked):
            yield replace(answer, first_token_s=0.25)


def test_the_time_to_the_first_token_is_kept(tmp_path: Path, store: Store) -> None:
    path = suite_yaml(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("- self_bleu", "- latency: {of: first_token}"), encoding="utf-8")
    backend = Timed()
    timed = Candidate("timed", "digest", backend.subject, lambda: backend)
    run = score(timed, load_suite(path), store).run
    assert values(store, run)["talk/latency"] == 0.25
    kept = {answer.kind: answer.first_token_s for answer in runs.run_responses(store, run.id)}
    assert kept == {"generation": 0.25, "reference": None, "text": None}
    assert values(store, rescore(run, load_suite(path), store).run)["talk/latency"] == 0.25


def test_limit_and_reserve_and_more_responses_extend_a_run(tmp_path: Path, store: Store) -> None:
    path = suite_yaml(tmp_path)
    text = path.read_text(encoding="utf-8").replace(
        "    data: capitals.jsonl\n", "    data: capitals.jsonl\n    reserve: 0.4\n"
    )
    path.write_text(text, encoding="utf-8")
    suite = load_suite(path)
    candidate, _ = scripted()
    small = score(candidate, suite, store)
    assert small.fresh == 3 + 3 + 9 + 3
    more = score(candidate, suite, store, extent=Extent(responses=2, reserve=0.5))
    assert more.run.id == small.run.id
    assert more.fresh == (4 + 4 + 4 * 6 + 4) - small.fresh
    groups = [s for s in runs.load_scores(store, more.run.id) if s.metric == "self_bleu"]
    # Fixed groups of K = 3, so that more answers make more groups and not another metric.
    assert {s.response_index for s in groups} == {0, 3}
    limited = score(candidate, suite, store, limit=2)
    assert limited.run.id != small.run.id
    assert limited.fresh == 0


def test_a_fresh_draw_is_another_run_of_the_sampled_answers_alone(
    tmp_path: Path, store: Store
) -> None:
    suite = load_suite(suite_yaml(tmp_path))
    candidate, _ = scripted()
    first = score(candidate, suite, store)
    fresh = score(candidate, suite, store, draw=1)
    assert fresh.run.id != first.run.id
    assert (fresh.generated, fresh.read) == (15, 0)


def test_rescoring_needs_no_model(tmp_path: Path, store: Store) -> None:
    suite = load_suite(suite_yaml(tmp_path))
    candidate, _ = scripted()
    first = score(candidate, suite, store)
    again = rescore(first.run, suite, store)
    assert again.run.id == first.run.id
    assert (again.fresh, again.scored) == (0, 20)
    assert len(runs.load_scores(store, first.run.id)) == 20


def test_rescoring_with_other_metrics_is_another_run(tmp_path: Path, store: Store) -> None:
    suite = load_suite(suite_yaml(tmp_path))
    candidate, _ = scripted()
    first = score(candidate, suite, store)
    path = suite_yaml(tmp_path)
    text = path.read_text(encoding="utf-8").replace("- exact_match", "- exact_match\n    - rouge_l")
    path.write_text(text, encoding="utf-8")
    again = rescore(first.run, load_suite(path), store)
    assert again.run.id != first.run.id
    assert values(store, again.run)["ask/rouge_l"] == pytest.approx(1.0)


def test_rescoring_on_another_suite_is_refused(tmp_path: Path, store: Store) -> None:
    candidate, _ = scripted()
    first = score(candidate, load_suite(suite_yaml(tmp_path)), store)
    (tmp_path / "b").mkdir()
    path = suite_yaml(tmp_path / "b")
    path.write_text(
        path.read_text(encoding="utf-8")
        .replace("Capital of", "City of")
        .replace("Tell me of", "Say")
        .replace("is in", "in"),
        "utf-8",
    )
    with pytest.raises(UserError, match="belong to this suite"):
        rescore(first.run, load_suite(path), store)


def test_counting_missing_answers_asks_the_model_nothing(tmp_path: Path, store: Store) -> None:
    suite = load_suite(suite_yaml(tmp_path))
    candidate, backend = scripted()
    assert missing_answers(Scoring(candidate, suite), store) == {
        ("ask", "generation"): (5, 5, 80),
        ("ask", "reference"): (5, 5, 0),
        ("talk", "generation"): (15, 15, 15 * 24),
        ("read", "text"): (5, 5, 0),
    }
    assert backend.calls == 0


def test_seeds_differ_by_everything_that_should_matter() -> None:
    base = (0, "task", "sample", 0, 0)
    variants = [
        (1, *base[1:]),
        (0, "t", "sample", 0, 0),
        (0, "task", "s", 0, 0),
        (0, "task", "sample", 1, 0),
        (0, "task", "sample", 0, 1),
    ]
    assert len({seed_of(*base), *(seed_of(*v) for v in variants)}) == 6  # type: ignore[arg-type]


def test_long_texts_are_read_in_windows_that_add_up(tmp_path: Path, store: Store) -> None:
    write_jsonl(tmp_path / "long.jsonl", [{"id": "a", "t": "漫长的" * 500}])
    path = suite_yaml(
        tmp_path,
        tasks={"read": {"data": "long.jsonl", "text": "{{ t }}", "metrics": ["perplexity"]}},
    )
    seen: list[int] = []

    candidate, _ = scripted()

    class Even(ScriptedBackend):
        def logprobs(self, requests: Sequence[Any]) -> Any:
            from harness.backends.base import Logprobs

            for request in requests:
                assert len(request.context_ids) + len(request.target_ids) <= 101
                seen.append(len(request.target_ids))
                yield Logprobs(request.id, (-1.0,) * len(request.target_ids), 0.0)

    even = Even(max_length=100)
    report = score(replace(candidate, open=lambda: even), load_suite(path), store)
    assert sum(seen) == 4500
    stats = metric_scores(store, report.run)["read/perplexity"].stats
    assert stats is not None
    assert stats["a"][:2] == (4500.0, 4500.0)
    assert isinstance(candidate, Candidate)
