"""What users corrected comes back as samples and training data: once, masked, and only after a
person's yes; never as both.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.data.duplicates import Passage
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.watch.feedback.harvest import harvest, passages, side_of
from harness.watch.feedback.reviews import approved, pending, review, write
from tests.harness.watch.watch_builders import LINE

TOPICS = ("refund", "parcel", "table", "password", "invoice", "coupon", "address", "garden")
NOW = datetime.now(UTC)


@pytest.fixture
def store(tmp_path):
    with Store(Workspace.at(tmp_path / ".ratchet")) as opened:
        yield opened


def asked(name, prompt, response="I do not know.", **more):
    return {
        "observation_id": name,
        "line": LINE,
        "model_digest": "a" * 64,
        "prompt": prompt,
        "response": response,
        "observed_at": NOW,
        **more,
    }


def corrected(store, count=10):
    store.append(
        "observations",
        [
            asked(
                f"c{i}",
                f"Customer question number {i} about the {topic} that I own: what now?",
                outcome="corrected",
                corrected_text=f"Please send the {topic} back within {i + 3} days.",
            )
            for i, topic in enumerate(TOPICS[:count])
        ],
    )


def all_yes(store):
    for item in pending(store, 1000):
        review(store, item.item_id, yes=True, reviewer="Mei")


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_low_rated_thumbed_down_and_corrected_answers_are_proposed(store):
    store.append(
        "observations",
        [
            asked("good", "How do I sing better?", stars=5.0, thumb=1),
            asked("silent", "Where is the moon tonight?"),
            asked("low", "When does the museum open?", stars=1.0),
            asked("down", "Why is my bicycle squeaking?", thumb=-1),
            asked("fixed", "Translate cheese.", corrected_text="fromage"),
            asked("failed", "Say hello to them.", thumb=-1, error="timeout"),
            {**asked("other", "Is it raining there?", thumb=-1), "line": "another"},
        ],
    )
    found = harvest(store, LINE)
    assert {item.observation_id: item.reason for item in found.proposed} == {
        "low": "low_rated",
        "down": "thumb_down",
        "fixed": "corrected",
    }
    assert harvest(store, LINE).proposed == ()


def test_feedback_that_comes_later_counts_and_may_be_taken_back(store):
    about = {"line": LINE, "observed_at": NOW}
    store.append(
        "observations",
        [
            asked("a", "How tall is the tower?"),
            asked("b", "How deep is the lake?"),
            {"observation_id": "f1", "about": "a", "thumb": -1, **about},
            {"observation_id": "f2", "about": "b", "thumb": -1, **about},
            {"observation_id": "f3", "about": "b", "thumb": 1, **about},
        ],
    )
    assert [item.observation_id for item in harvest(store, LINE).proposed] == ["a"]


def test_an_answer_that_names_its_checkpoint_alone_is_found_too(store):
    store.append("checkpoints", [{"digest": "a" * 64, "event": "promoted", "line": LINE}])
    store.append(
        "observations",
        [
            {**asked("a", "How tall is the tower?", thumb=-1), "line": None},
            {**asked("b", "How deep is the lake?", thumb=-1), "line": None}
            | {"model_digest": "b" * 64},
        ],
    )
    assert [item.observation_id for item in harvest(store, LINE).proposed] == ["a"]


def test_the_same_and_nearly_the_same_question_is_proposed_once(store):
    question = "Please book a table for two people at seven in the evening under the name of Li."
    chinese = "请帮我预订今天晚上七点的两人桌，名字是李先生，最好靠近窗户。"
    store.append(
        "observations",
        [
            asked("a", question, stars=2.0),
            asked("b", question.upper(), stars=1.0),
            asked("c", question.replace("Li", "Wu"), corrected_text="Booked."),
            asked("d", chinese, thumb=-1),
            asked("e", chinese.replace("李", "王"), thumb=-1),
        ],
    )
    found = harvest(store, LINE)
    assert sorted(item.observation_id for item in found.proposed) == ["c", "e"]
    assert found.alike == 3
    store.append("observations", [asked("f", f"  {question}!", stars=1.0)])
    assert harvest(store, LINE).proposed == ()


def test_what_a_suite_holds_already_is_not_proposed(store):
    corrected(store, 2)
    known = [Passage("suite/task", "s1", ("customer question number 0 about the refund that i "
                                          "own what now",))]  # fmt: skip
    assert [item.observation_id for item in harvest(store, LINE, against=known).proposed] == ["c1"]


def test_personal_data_is_masked_in_edits_too(store, tmp_path):
    store.append("observations", [asked("a", "Write to li@example.com please", thumb=-1)])
    (item,) = harvest(store, LINE).proposed
    assert "example.com" not in item.item["prompt"]
    edits = {"target": "Done, I wrote to wu@example.com"}
    review(store, item.item_id, yes=True, reviewer="Mei", edits=edits)
    write(store, "suite", tmp_path / "s.jsonl")
    assert "example.com" not in (tmp_path / "s.jsonl").read_text()


def test_nothing_gets_out_without_a_yes(store, tmp_path):
    corrected(store)
    harvest(store, LINE, suite_share=1.0)
    with pytest.raises(UserError, match="nothing that a person said yes to"):
        write(store, "suite", tmp_path / "s.jsonl")
    first, second, *_ = pending(store)
    review(store, first.item_id, yes=True, reviewer="Mei")
    review(store, second.item_id[:8], yes=True, reviewer="Mei")
    review(store, second.item_id, yes=False, reviewer="Tom", reason="trivial")
    assert write(store, "suite", tmp_path / "s.jsonl").rows == 1
    (row,) = read(tmp_path / "s.jsonl")
    assert row["id"] == first.item_id
    assert row["reviewer"] == "Mei"
    assert row["observation_id"] == first.observation_id
    assert row["model_digest"] == "a" * 64
    assert len(pending(store)) == len(TOPICS) - 2


def test_a_suite_reads_what_is_written(store, tmp_path):
    corrected(store)
    harvest(store, LINE, suite_share=1.0)
    all_yes(store)
    write(store, "suite", tmp_path / "production.jsonl")
    (tmp_path / "suite.yaml").write_text(
        "name: production\n"
        "tasks:\n"
        "  asked:\n"
        "    data: production.jsonl\n"
        '    prompt: {user: "{{ prompt }}"}\n'
        '    reference: "{{ target }}"\n'
        "    metrics: [rouge_l]\n"
    )
    suite = load_suite(tmp_path / "suite.yaml")
    (task,) = suite.tasks
    assert len(task.samples) == len(TOPICS)
    assert {sample.id for sample in task.samples} == {item.item_id for item in approved(store)}
    # Written again, what stands in the suite already is not taken for a duplicate of itself.
    again = write(store, "suite", tmp_path / "production.jsonl",
                  against=passages(tmp_path / "suite.yaml"))  # fmt: skip
    assert again.rows == len(TOPICS)


def test_known_pairs_for_raters(store, tmp_path):
    corrected(store, 3)
    store.append("observations", [asked("low", "When does the museum open?", stars=1.0)])
    harvest(store, LINE, suite_share=1.0)
    all_yes(store)
    written = write(store, "rating", tmp_path / "gold.jsonl")
    assert (written.rows, len(written.left_out)) == (3, 1)
    assert {"prompt", "better", "worse"} <= read(tmp_path / "gold.jsonl")[0].keys()


def test_edits_never_bring_a_prompt_to_both_sides(store, tmp_path):
    corrected(store)
    harvest(store, LINE, suite_share=0.5)
    items = pending(store)
    sample = next(item for item in items if item.kind == "sample")
    row = next(item for item in items if item.kind == "training")
    review(store, sample.item_id, yes=True, reviewer="Mei")
    review(store, row.item_id, yes=True, reviewer="Mei", edits={"prompt": sample.item["prompt"]})
    with pytest.raises(UserError, match="nothing that a person said yes to"):
        write(store, "sft", tmp_path / "sft.jsonl")
    assert write(store, "suite", tmp_path / "s.jsonl").rows == 1


def test_a_file_of_somebody_else_is_left_alone(store, tmp_path):
    corrected(store)
    harvest(store, LINE, suite_share=1.0)
    all_yes(store)
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"prompt": "by hand"}\n')
    with pytest.raises(UserError, match="would be lost"):
        write(store, "suite", mine)
    assert mine.read_text() == '{"prompt": "by hand"}\n'


@pytest.mark.parametrize(
    ("item", "edits", "reviewer", "message"),
    [
        ("nothing", None, "Mei", "is not a harvested item"),
        ("", None, "Mei", "begins several"),
        (None, None, " ", "needs a reviewer"),
        (None, {"response": "x"}, "Mei", "can't be edited"),
        (None, {"prompt": "  "}, "Mei", "has no prompt"),
    ],
)
def test_wrong_decisions_are_refused(store, item, edits, reviewer, message):
    corrected(store, 3)
    harvest(store, LINE)
    chosen = pending(store)[0].item_id if item is None else item
    with pytest.raises(UserError, match=message):
        review(store, chosen, yes=True, reviewer=reviewer, edits=edits)


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_of_the_suite_moves_items_one_way(prompt, one, other):
    small, large = sorted((one, other))
    if side_of(prompt, True, small) == "sample":
        assert side_of(prompt, True, large) == "sample"
    assert side_of(f" {prompt} ", True, large) == side_of(prompt, True, large)


# The verbs.


def test_harvest_review_and_write_as_verbs(store, tmp_path, monkeypatch):
    import typer
    from typer.testing import CliRunner

    from harness.cli import watch_harvest
    from harness.core.workspace import HOME_VARIABLE

    monkeypatch.setenv(HOME_VARIABLE, str(store.workspace.home))
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(watch_harvest.harvest)
    app.command()(watch_harvest.review)

    def run(*arguments):
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    store.append("observations", [asked("a", "Why\u202e is it red? [bold]x[/bold]", thumb=-1)])
    assert "1 proposed: 1 for the suite's side" in run("harvest", LINE)
    listed = run("review")
    assert "⟨U+202E⟩" in listed
    assert "[bold]x[/bold]" in listed
    (item,) = pending(store)
    run("review", item.item_id, "--yes", "--by", "Mei", "--target", "Because it is hot.")
    assert "nothing waits" in run("review")
    assert "1 rows in suite.jsonl" in run("harvest", "--to", "suite")
    (row,) = read(tmp_path / "suite.jsonl")
    assert (row["target"], row["reviewer"]) == ("Because it is hot.", "Mei")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "sweet"}, "'sweet' is not a goal"),
        ({"to": "suite", "limit": 5}, "--limit goes with a line"),
        ({"to": "suite", "suite_share": 0.5}, "--suite-share goes with a line"),
        ({"line": LINE, "out": Path("x.jsonl")}, "--out goes with --to"),
        ({}, "needs either a line"),
    ],
)
def test_no_option_is_ignored(arguments, message):
    from harness.cli import watch_harvest

    with pytest.raises(UserError, match=message) as caught:
        watch_harvest.harvest(**arguments)
    assert caught.value.hint
