"""The suites that ship: their data is as described, and every metric scores on it."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from harness.backends.base import Candidate
from harness.backends.openers import Hardware
from harness.backends.scripted import ScriptedBackend
from harness.comparison.evidence import metric_scores, slices_of, summarize
from harness.core.types import ScoreOutcome, VerdictOutcome
from harness.evaluation.open_model import open_model
from harness.evaluation.plan import Extent
from harness.evaluation.runner import score
from harness.gate.decision import decide
from harness.metrics.contains import contains
from harness.metrics.rouge import tokenize
from harness.store import runs
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from tests.tiny import save_tiny_llama

ROOT = Path(__file__).resolve().parents[3]
EVERYTHING = Extent(reserve=1.0)
LANGUAGES = {
    "bias-pairs": {"en": 32, "zh": 32},
    "chat-en": {"en": 64},
    "chat-zh": {"zh": 64},
    "forgetting": {"en": 37, "zh": 27},
    "knowledge": {"en": 44, "zh": 44},
    "math": {"en": 32, "zh": 32},
    "rag": {"en": 60, "zh": 60},
    "safety": {"en": 60, "zh": 60},
    "tools": {"en": 30, "zh": 30},
}
# Samples that only some metrics score: those to which no tool or passage belongs, and the rest.
NOTHING_FITS = {"tools": 10, "rag": 30}
ABSTAINING = ("tool_abstain", "abstains")
OF_THE_REST = ("tool_arguments", "contains", "citation_recall", "hit_at_k", "mrr", "ndcg")
TOOLS_TEMPLATE = "{{ tools | map(attribute='function.name') | join(' ') if tools }}"
SUITES = {path.stem: path for path in sorted((ROOT / "suites").glob("*.yaml"))}


def shipped(name: str) -> Suite:
    return load_suite(SUITES[name])


def rows_of(file: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]


def data_of(suite: Suite) -> list[Path]:
    return sorted({task.data_path for task in suite.tasks})


def candidate(answers=None, logprobs=None, name="scripted") -> Candidate:
    backend = ScriptedBackend(answers, logprobs=logprobs)
    return Candidate(name, f"digest of {name}", backend.subject, lambda: backend)


def values(store, run) -> dict[str, float | None]:
    return {line.metric: line.estimate.value for line in summarize(store, run)}


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_loads_under_its_own_name(name):
    assert shipped(name).name == name


@pytest.mark.parametrize("name", LANGUAGES)
def test_ids_are_unique_and_languages_as_claimed(name):
    rows = [row for path in data_of(shipped(name)) for row in rows_of(str(path))]
    assert len({row["id"] for row in rows}) == len(rows)
    assert Counter(row["language"] for row in rows) == LANGUAGES[name]
    for row in rows:
        said = row.get("message") or row.get("question") or row.get("text") or row["stereotype"]
        han = sum("\u4e00" <= letter <= "\u9fff" for letter in said) / len(said)
        assert (han > 0.35) == (row["language"] == "zh"), row["id"]


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_readme_counts_what_is_there(name):
    table = (ROOT / "suites/README.md").read_text(encoding="utf-8").splitlines()
    line = next(line for line in table if line.startswith(f"| `{name}` "))
    suite = shipped(name)
    for task in suite.tasks:
        assert f"`{task.name}` {len(task.samples)}" in line
        for metric in task.metrics:
            assert f"`{metric.spec.name}`" in line
    for language, count in LANGUAGES[name].items():
        assert f"{language} {count}" in line


def shingles(text: str) -> frozenset[str]:
    plain = "".join(letter for letter in text.lower() if letter.isalnum())
    return frozenset(plain[i : i + 3] for i in range(max(1, len(plain) - 2)))


def test_no_row_is_nearly_another():
    # Intents are made from templates on purpose, and vary the same phrasings.
    files = sorted({path for name in (*LANGUAGES, "quickstart") for path in data_of(shipped(name))})
    found = {
        f"{file.stem}/{row['id']}/{field}": shingles(row[field])
        for file in files
        if not file.name.startswith("intents")
        for row in rows_of(str(file))
        for field in ("message", "answer", "question", "text", "stereotype")
        # Two questions may well have the same short answer.
        if isinstance(row.get(field), str) and len(row[field]) > 12
    }
    near = [
        (one, other)
        for (one, left), (other, right) in combinations(found.items(), 2)
        if min(len(left), len(right)) > 0.4 * max(len(left), len(right))
        and len(left & right) > 0.4 * len(left | right)
    ]
    assert near == []


def test_forgetting_holds_nothing_that_the_recipes_train_on_or_the_quickstart_tests():
    others = ("suites/data/general.heldout.jsonl", "trainers/recipes/data/general.train.jsonl")
    known = {gram for file in others for row in rows_of(file) for gram in six_grams(row["text"])}
    ours = rows_of("suites/data/forgetting.jsonl")
    assert known
    assert [row["id"] for row in ours if known & six_grams(row["text"])] == []


def six_grams(text: str) -> set[tuple[str, ...]]:
    tokens = tokenize(text)
    return {tuple(tokens[i : i + 6]) for i in range(len(tokens) - 5)}


def test_pairs_differ_in_few_words_and_are_balanced():
    rows = rows_of("suites/data/bias-pairs.jsonl")
    sides = Counter((row["language"], row["dimension"], row["about"]) for row in rows)
    opposed = [("women", "men"), ("old", "young"), ("office", "manual"), ("city", "country")]
    for language in ("en", "zh"):
        for one, other in [*opposed, ("north", "south")]:
            counts = [
                sum(n for (lang, _, about), n in sides.items() if (lang, about) == (language, side))
                for side in (one, other)
            ]
            assert counts[0] == counts[1]
    for row in rows:
        one, other = (Counter(tokenize(row[key])) for key in ("stereotype", "opposite"))
        assert one != other
        assert (one - other).total() <= {"en": 2, "zh": 5}[row["language"]], row["id"]


def test_right_choices_are_at_every_position():
    places = Counter(row["answer"] for row in rows_of("suites/data/knowledge.jsonl"))
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) - min(places.values()) <= 4


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_suite_scores_end_to_end_and_an_unchanged_model_passes(name, store):
    suite = shipped(name)
    report = score(candidate(), suite, store, extent=EVERYTHING)
    lines = {line.metric: line for line in summarize(store, report.run)}
    assert set(lines) == {f"{task.name}/{metric.spec.name}" for task, metric in suite.metrics()}
    for task, metric in suite.metrics():
        line = lines[f"{task.name}/{metric.spec.name}"]
        assert (line.counts.errors, line.counts.total) == (0, len(task.samples))
        english = sum(sample.language != "zh" for sample in task.samples)
        if metric.spec.name == "toxicity":
            # The embedded model reads English only, and says so; not all that a model with random
            # weights writes is surely English.
            assert 0.8 * english <= line.counts.scored <= english
        elif metric.spec.name in ABSTAINING:
            assert line.counts.scored == NOTHING_FITS[name]
        elif metric.spec.name in OF_THE_REST:
            assert line.counts.scored == len(task.samples) - NOTHING_FITS[name]
        else:
            assert line.counts.scored == len(task.samples)
    scores = metric_scores(
        store, report.run, policy=suite.policy, slices=slices_of(suite, suite.policy)
    )
    assert decide(scores, scores, suite.policy).outcome is VerdictOutcome.PASS


@pytest.fixture(scope="module")
def patient_llama(tmp_path_factory) -> Path:
    """The tiny model with room for Chinese: its tokenizer makes three tokens of a character. Its
    template writes the names of tools.
    """
    folder = save_tiny_llama(
        tmp_path_factory.mktemp("models") / "patient", max_position_embeddings=4096
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TOOLS_TEMPLATE + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_real_model_scores_too(name, store, workspace, patient_llama):
    model = open_model(str(patient_llama), workspace, store, hardware=Hardware("cpu", "float32"))
    report = score(model, shipped(name), store, limit=3)
    assert report.failed == 0
    scores = runs.load_scores(store, report.run.id)
    assert scores
    assert not [one for one in scores if one.outcome is ScoreOutcome.ERROR]


def test_safety_distinguishes_a_model_that_refuses(store):
    no = "I'm sorry, but I can't help with that."
    timid = score(candidate(lambda *_: no, name="timid"), shipped("safety"), store).run
    willing = score(
        candidate(lambda *_: "Sure, here is how.", name="willing"), shipped("safety"), store
    ).run
    found = values(store, timid), values(store, willing)
    assert [one["red-team/refusal"] for one in found] == [1, 0]
    assert [one["look-alikes/refusal"] for one in found] == [1, 0]
    assert [one["red-team/regex"] for one in found] == [0, 1]


def test_a_model_that_is_safe_and_helpful_passes_beside_itself(store):
    suite = shipped("safety")
    harmful = [row["message"] for row in rows_of("suites/data/safety.harmful.jsonl")]
    answers = {
        **dict.fromkeys(harmful, "抱歉，我无法提供帮助。"),
        "": "Gladly. Begin with the basics.",
    }
    run = score(candidate(answers, name="sound"), suite, store).run
    found = values(store, run)
    assert (found["red-team/refusal"], found["look-alikes/refusal"]) == (1, 0)
    scores = metric_scores(store, run, policy=suite.policy)
    assert decide(scores, scores, suite.policy).outcome is VerdictOutcome.PASS


def test_chat_zh_notices_answers_in_another_language(store):
    spoken = {"english": "I would rather say this in English.", "chinese": "可以的，" * 5}
    for (name, answer), share in zip(spoken.items(), (0, 1), strict=True):
        model = candidate(lambda *_, answer=answer: answer, name=name)
        run = score(model, shipped("chat-zh"), store).run
        assert values(store, run)["answers/regex"] == share


def test_knowledge_and_bias_know_which_answer_is_which(store):
    facts = rows_of("suites/data/knowledge.jsonl")
    right = {(row["question"], row["choices"][row["answer"]]) for row in facts}
    stereotypes = {row["stereotype"] for row in rows_of("suites/data/bias-pairs.jsonl")}

    def knows(context: str, target: str) -> list[float]:
        question = context.removeprefix("user: ").removesuffix("\nassistant: ")
        likely = (question, target) in right or target in stereotypes
        return [-0.1 if likely else -5.0] * len(target.encode())

    model = candidate(logprobs=knows, name="knowing")
    knowledge = score(model, shipped("knowledge"), store).run
    assert values(store, knowledge)["choices/multiple_choice"] == 1
    assert values(store, knowledge)["recall/reference_nll"] == pytest.approx(0.1)
    pairs = score(model, shipped("bias-pairs"), store).run
    assert values(store, pairs)["pairs/stereotype_preference"] == 1


def test_math_reads_the_result_where_it_asks_for_it(store):
    suite = shipped("math")
    rows = [row for path in data_of(suite) for row in rows_of(str(path))]
    right = {
        row["question"]: f"First 17, then 4.\n\\boxed{{{row['answer']}}}"
        if "form" in row["id"]
        else f"17 and 4 are no answers.\n**{row['answer']}**"
        for row in rows
    }
    bare = {row["question"]: row["answer"] for row in rows}
    other = {row["question"]: f"\\boxed{{{row['answer']}}} - 1 = \\boxed{{9/7}}" for row in rows}
    found = [
        values(store, score(candidate(answers, name=name), suite, store).run)
        for name, answers in (("right", right), ("bare", bare), ("other", other))
    ]
    tasks = ("numbers/math_equal", "forms/math_equal")
    assert [[one[task] for task in tasks] for one in found] == [[1, 1], [1, 0], [0, 0]]
    assert {row["level"] for row in rows} == {1, 2, 3, 4}


def test_rag_tells_answers_citations_and_abstentions_apart(store):
    suite = shipped("rag")
    rows = rows_of("suites/data/rag.questions.jsonl")
    unknown = "I'm afraid the passages don't mention that."
    right = {
        row["question"]: f"It is {row['answer']} [{row['relevant'][0]}].\n{row['relevant'][0]}"
        if row["relevant"]
        else unknown
        for row in rows
    }
    sure = {row["question"]: f"{row['answer'] or 'Forty'} [p49]" for row in rows}
    found = [
        values(store, score(candidate(answers, name=name), suite, store).run)
        for name, answers in (("right", right), ("sure", sure), ("timid", {"": unknown}))
    ]
    metrics = ("contains", "abstains", "citation_precision", "citation_recall", "hit_at_k")
    assert [[one[f"answers/{metric}"] for metric in metrics] for one in found] == [
        [1, 1, 1, 1, 1],
        [1, 0, 0, 0, 1],
        [0, 1, 0.25, 0, 1],
    ]
    assert found[0]["ranking/mrr"] == 0.5 > found[1]["ranking/mrr"] == 0


def test_rag_questions_are_answered_by_the_passage_that_they_name():
    passages = {row["id"]: row for row in rows_of("suites/data/rag.passages.jsonl")}
    assert len({row["text"] for row in passages.values()}) == len(passages) == 48
    for row in rows_of("suites/data/rag.questions.jsonl"):
        assert bool(row["answer"]) == bool(row["relevant"]), row["id"]
        for name in row["relevant"]:
            assert passages[name]["language"] == row["language"]
            assert contains(passages[name]["text"], row["answer"]), row["id"]
    at_first = sum(
        sorted(one["id"] for one in sample.fields["contexts"])[0] in sample.fields["relevant"]
        for sample in shipped("rag").task("ranking").samples
    )
    assert at_first < 60, "the first id isn't mostly the right one"


def tools_asked(write) -> dict[str, str]:
    """Each request of `tools` with the calls that are right, as `write` writes one."""
    return {
        row["message"]: "\n".join(
            write(name, {key: values[0] for key, values in allowed.items()})
            for call in row["calls"]
            for name, allowed in call.items()
        )
        or "I can tell you that without a tool."
        for row in rows_of("suites/data/tools.calls.jsonl")
    }


def test_tools_tells_three_stages_apart(store):
    hermes = '<tool_call>{{"name": "{}", "arguments": {}}}</tool_call>'
    read = {
        row["message"]: f"It says: {row['answer']}."
        for row in rows_of("suites/data/tools.results.jsonl")
    }
    right = tools_asked(lambda name, given: hermes.format(name, json.dumps(given)))
    vague = tools_asked(lambda name, given: hermes.format(name, "{}"))
    eager = dict.fromkeys(right, hermes.format("get_weather", '{"city": "Lima"}'))
    found = [
        values(store, score(candidate(answers, name=name), shipped("tools"), store).run)
        for name, answers in (
            ("right", {**right, **read}),
            ("vague", {**vague, **read}),
            ("eager", {**eager, **dict.fromkeys(read, "I don't know.")}),
        )
    ]
    stages = ("calls/tool_choice", "calls/tool_arguments", "calls/tool_abstain")
    assert [[one[stage] for stage in stages] for one in found[:2]] == [[1, 1, 1], [1, 0, 1]]
    assert found[2]["calls/tool_arguments"] == found[2]["calls/tool_abstain"] == 0
    assert [one["results/tool_answer"] for one in found] == [1, 1, 0]


def test_every_right_call_fits_the_tools_that_are_offered():
    for row in rows_of("suites/data/tools.calls.jsonl"):
        offered = {
            tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]
        }
        for call in row["calls"]:
            ((name, allowed),) = call.items()
            assert (
                set(offered[name]["required"]) <= set(allowed) <= set(offered[name]["properties"])
            )
            for key, given in allowed.items():
                enum = offered[name]["properties"][key].get("enum", given)
                assert set(given) <= set(enum), row["id"]
    for row in rows_of("suites/data/tools.results.jsonl"):
        assert row["answer"] in row["turns"][1]["content"]
