"""Contamination: what counts as the same text, that nothing is missed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.data.duplicates import SHORTEST_CONTAINED, Passage, compared, squeezed, stands_in
from harness.data.shingles import run_length, shingles
from harness.suite.load import load_suite
from harness.suite.passages import of_suite
from trainers.config import contamination
from trainers.config.contamination import Report, check, check_recipe
from trainers.config.frames import unframed
from trainers.config.load import load_recipe
from trainers.config.schema import ContaminationModel

ROOT = Path(__file__).resolve().parents[3]
QUESTION = "Please book a table for two people at seven in the evening, under the name of Li."
FRAGE = "请帮我预订今天晚上七点的两人桌，名字是李先生，最好靠近窗户。"


def held(*texts: str) -> list[Passage]:
    return [Passage("suite/task", f"h{i}", (text,)) for i, text in enumerate(texts)]


def trained(*texts: str) -> list[Passage]:
    return [Passage("train.jsonl", f"r{i}", (text,)) for i, text in enumerate(texts)]


def found(train: str, asked: str, near: float = 0.8) -> str | None:
    report = check(trained(train), held(asked), ContaminationModel(near=near))
    return report.matches[0].kind if report.matches else None


@pytest.mark.parametrize(
    ("train", "asked", "kind"),
    [
        (QUESTION, QUESTION, "exact"),
        (QUESTION.upper() + "!!", f"  {QUESTION}", "exact"),
        ("ＡＢＣ １２３ book", "abc 123 book", "exact"),
        (FRAGE, FRAGE.replace("，", " ").replace("。", ""), "exact"),
        (QUESTION, QUESTION.replace("Li", "Wu"), "near"),
        (FRAGE, FRAGE.replace("李", "王"), "near"),
        (
            f"He said this. {QUESTION} Then he left, and nobody saw him again.",
            QUESTION,
            "contained",
        ),
        (f"客户说：{FRAGE}然后就挂了电话，再也没有打来，我们等了很久。", FRAGE, "contained"),
        # a row in two languages, and a sample of each
        (f"The customer wrote this, in Chinese, as they often do: {FRAGE}", FRAGE, "contained"),
        (f"{FRAGE * 9} {QUESTION}", QUESTION, "contained"),
        (f"{FRAGE} Book it by telephone today", f"{FRAGE} Book it by telephones today", "near"),
        ("yes", "yes or no", None),
        ("I would like a table for four.", QUESTION, None),
        ("请问今天晚上有没有空桌？", FRAGE, None),
        ("\u200b".join(QUESTION), QUESTION, "exact"),
        (QUESTION.replace(" ", "\u200f "), QUESTION, "exact"),
        (QUESTION.replace("table", "ta\u00adble"), QUESTION, "exact"),
        ("\ufeff" + QUESTION.replace("o", "o\ufe0f"), QUESTION, "exact"),
        (QUESTION.replace(" ", ""), QUESTION, "exact"),
        (QUESTION.replace(" ", "_"), QUESTION, "exact"),
        (FRAGE, "\u200b".join(FRAGE), "exact"),
        ("Ou est la bibliotheque STRASSE?", "Où est la bibliothèque straße ?", "exact"),
        ("Question: fox jumps over?\nAnswer:", "fox jumps over?", "contained"),
        ("Q: 法国的首都是哪里？ A: 巴黎", "法国的首都是哪里？", "contained"),
        ("foxes jump overboard", "fox jumps over", None),
        ("well then, yes of course", "yes", None),
        ("What is 2 + 2?", "What is 2 - 2?", None),
        ("It is 3.14.", "It is 314.", None),
        ("It costs 1,000.", "it costs 1000", "exact"),
        ("", QUESTION, None),
        (QUESTION, "...", None),
    ],
)
def test_what_counts_as_the_same(train: str, asked: str, kind: str | None) -> None:
    assert found(train, asked) == kind


words = st.lists(
    st.sampled_from(
        ["a", "table", "for", "two", "four", "please", "book", "桌", "预订", "今晚", "了"]
    ),
    max_size=9,
)
texts = st.lists(words.map(" ".join), min_size=1, max_size=6)


@given(texts, texts, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
@settings(max_examples=80, deadline=None)
def test_the_index_finds_what_comparing_all_pairs_finds(
    mine: list[str], theirs: list[str], near: float
) -> None:
    report = check(trained(*mine), held(*theirs), ContaminationModel(near=near))
    wanted = set()
    for number, asked in enumerate(map(compared, theirs)):
        for text in filter(None, map(compared, mine)):
            a, b = shingles(text, run_length(asked)), shingles(asked)
            long = len(b) >= SHORTEST_CONTAINED
            contains = len(a) > len(b) and len(a & b) / len(b) >= near if long else False
            within = not long and b <= a and stands_in(asked, text)
            alike = len(a & b) / len(a | b) >= near
            same = squeezed(text) == squeezed(asked)
            if asked and (same or alike or contains or within):
                wanted.add(f"h{number}")
    assert {match.sample for match in report.matches} == wanted


def test_the_most_alike_row_is_named_and_the_training_refused() -> None:
    rows = trained("something else entirely, of no use", QUESTION.replace("Li", "Wu"), QUESTION)
    report = check(
        rows, held(QUESTION, "Another question that nobody has seen."), ContaminationModel()
    )
    [match] = report.matches
    assert (match.row, match.kind, match.similarity) == ("r2", "exact", 1.0)
    assert report.share("suite/task") == report.worst == 0.5
    report.require(ContaminationModel(refuse_above=0.5))
    with pytest.raises(UserError, match=r"50\.0% .*train\.jsonl row r2 is suite/task sample h0"):
        report.require(ContaminationModel())


def test_a_tiny_share_of_a_large_training_is_still_the_whole_task() -> None:
    report = check(
        trained(*(f"an ordinary row of number {n}" for n in range(500)), QUESTION),
        held(QUESTION),
        ContaminationModel(),
    )
    assert report.worst == 1.0


def test_planted_rows_are_all_found_in_a_shipped_suite() -> None:
    suite = load_suite(ROOT / "suites/quickstart.yaml")
    passages = of_suite(suite)
    planted = [
        Passage("leak.jsonl", p.name, tuple(text.lower().replace(",", "") for text in p.texts))
        for p in passages
    ]
    report = check(planted, passages, ContaminationModel())
    assert set(map(report.share, report.samples)) == {1.0}


def test_the_quickstart_is_clean() -> None:
    report = check_recipe(load_recipe(ROOT / "trainers/recipes/quickstart.yaml"))
    assert report.matches == ()
    report.require(ContaminationModel(refuse_above=0.0))


def test_the_overlap_with_a_task_is_reported() -> None:
    report: Report = check(
        trained("the cat sat", "the dog 今天天气"), held("the cat 今天"), ContaminationModel()
    )
    # the, cat, sat, the, dog, 今天, 天天, 天气
    assert report.overlap["train.jsonl", "suite/task"] == pytest.approx(4 / 8)


def test_a_recipe_that_learns_its_suite_is_refused(tmp_path: Path, tiny_llama: Path) -> None:
    from tests.trainers.recipe_builders import write_world

    path = write_world(tmp_path, tiny_llama)
    leak = json.dumps({"id": "leak", "text": "Where was the quick brown fox on that long evening?"})
    for name in ("good.jsonl", "heldout.jsonl"):
        file = tmp_path / name
        file.write_text(file.read_text(encoding="utf-8") + leak + "\n", encoding="utf-8")
    report = check_recipe(load_recipe(path))
    assert any(m.row == "leak" and m.sample == "leak" and m.kind == "exact" for m in report.matches)
    with pytest.raises(UserError, match="is in the training data"):
        report.require(ContaminationModel(refuse_above=0.0))


def leaky(folder: Path, stages: list[tuple[list[dict[str, str]], dict[str, object]]]) -> Report:
    """What is found where `stages` are (rows, source) on files of their own, against one
    sample."""
    import yaml

    (folder / "asked.jsonl").write_text(json.dumps({"id": "h", "q": QUESTION}) + "\n", "utf-8")
    task = {"data": "asked.jsonl", "prompt": {"user": "{{ q }}"}, "metrics": ["length"]}
    suite = {"name": "s", "tasks": {"t": task}}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    written = []
    for number, (rows, source) in enumerate(stages):
        name = str(source.setdefault("source", f"d{number}.jsonl"))
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name).write_text(lines, encoding="utf-8")
        stage = {"name": f"n{number}", "steps": 1, "checkpoint_every": 1}
        written.append({**stage, "data": {"mix": [{"weight": 1, **source}]}})
    recipe = {
        "name": "r",
        "line": "r",
        "base": "b",
        "stages": written,
        "gate": {"suite": "suite.yaml"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return check_recipe(load_recipe(folder / "recipe.yaml"), cache=folder / "cache")


TEXT: dict[str, object] = {"text": "{{ a }}"}
CHAT: dict[str, object] = {"prompt": {"user": "{{ a }}"}, "completion": "{{ b }}"}
FILLER = [{"id": "x", "a": f"an ordinary row of number {n}", "b": "yes"} for n in range(3)]
LEAK = {"id": "x", "a": "nothing much", "b": QUESTION}


@pytest.mark.parametrize(
    "stages",
    [
        [([*FILLER, {**LEAK, "a": QUESTION}], TEXT)],
        [([*FILLER, {**LEAK, "a": QUESTION, "b": "ok"}], CHAT)],
        [([*FILLER, LEAK], CHAT)],
        [([LEAK], {**TEXT, "source": "one.jsonl"}), ([LEAK], {**CHAT, "source": "one.jsonl"})],
        [([LEAK], {**CHAT, "source": "one.jsonl"}), ([LEAK], {**TEXT, "source": "one.jsonl"})],
        [([*FILLER, LEAK], {**TEXT, "text": "{{ a }} {{ b }}"})],
        [([LEAK], {**CHAT, "prompt": {"system": "{{ b }}", "user": "{{ a }}"}, "completion": "y"})],
        [(FILLER, TEXT), ([*FILLER, LEAK], CHAT)],
        [([LEAK, *FILLER], {**CHAT, "where": {"id": "x"}})],
    ],
)
def test_neither_ids_nor_sources_nor_stages_hide_a_sample(
    tmp_path: Path, stages: list[tuple[list[dict[str, str]], dict[str, object]]]
) -> None:
    copies = [(rows, dict(source)) for rows, source in stages]
    assert leaky(tmp_path, copies).share("s/t") == 1.0


ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{{ a }}\n\n### Response:\n"
)
SHORT = [
    {"q": f"Which {noun} is the {word}?"}
    for noun in ("city", "river")
    for word in ("best", "longest", "oldest")
]


def framed(folder: Path, asked: str, learned: dict[str, object], rows: list[str]) -> Report:
    """Short questions put to the model as `asked`, and rows `a` learned from."""
    report = leaky(folder, [([{"a": row, "b": "so"} for row in rows], learned)])
    lines = "".join(json.dumps({"id": f"h{i}", **row}) + "\n" for i, row in enumerate(SHORT))
    (folder / "asked.jsonl").write_text(lines, encoding="utf-8")
    suite = (folder / "suite.yaml").read_text("utf-8")
    (folder / "suite.yaml").write_text(suite.replace("'{{ q }}'", json.dumps(asked)), "utf-8")
    assert report.matches == ()
    return check_recipe(load_recipe(folder / "recipe.yaml"), cache=folder / "cache")


@pytest.mark.parametrize(
    "asked", ["{{ q }}", ALPACA.replace("{{ a }}", "{{ q }}"), "Q: {{ q }}\nA:"]
)
@pytest.mark.parametrize(
    "learned",
    [
        {"prompt": {"user": "{{ a }}"}, "completion": "{{ b }}"},
        {"prompt": {"user": ALPACA}, "completion": "{{ b }}"},
        {"text": ALPACA + "{{ b }}"},
        {"prompt": {"user": "Answer in one word, please. {{ a }}"}, "completion": "{{ b }}"},
    ],
)
def test_the_words_around_a_question_neither_hide_nor_make_a_match(
    tmp_path: Path, asked: str, learned: dict[str, object]
) -> None:
    others = ["Name three primary colors.", "Tell me about your holidays.", "Sort these words."]
    assert framed(tmp_path, asked, dict(learned), others).matches == ()
    leaked = [*others, *(row["q"] for row in SHORT[:3])]
    report = framed(tmp_path, asked, dict(learned), leaked)
    assert sorted(match.sample for match in report.matches) == ["h0", "h1", "h2"]


def test_a_text_that_is_cut_into_question_and_answer_is_found(tmp_path: Path) -> None:
    half = len(QUESTION) // 2
    row = {"id": "x", "a": QUESTION[:half], "b": QUESTION[half:]}
    assert leaky(tmp_path, [([*FILLER, row], dict(CHAT))]).share("s/t") == 1.0


@given(st.lists(st.text(alphabet="ab 你。", max_size=12), min_size=1, max_size=6))
def test_what_all_have_alike_is_left_out_and_nothing_else(texts: list[str]) -> None:
    rests = unframed([f"Say it: {text} now, please" for text in texts])
    for text, rest in zip(texts, rests, strict=True):
        assert rest in f"Say it: {text} now, please"
        if len(set(texts)) > 1:
            assert "Say it" not in rest
            assert "please" not in rest


def test_two_samples_of_one_id_are_two_samples() -> None:
    twice = [Passage("s/t", "h", (QUESTION,)), Passage("s/t", "h", ("Quite another question.",))]
    report = check(trained(QUESTION), twice, ContaminationModel())
    assert report.share("s/t") == 0.5
    assert check(trained(QUESTION), twice[:1] * 3, ContaminationModel()).share("s/t") == 1.0


def test_what_is_said_over_and_over_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.data.duplicates import Index

    asked: list[str] = []
    like = Index.like_each

    def counted(self: Index, texts: list[str], near: float = 0.8) -> object:
        asked.extend(texts)
        return like(self, texts, near)

    monkeypatch.setattr(Index, "like_each", counted)
    rows = [Passage("d", f"r{n}", ("Be brief.", f"row {n % 7}")) for n in range(1000)]
    check(rows, held(QUESTION), ContaminationModel())
    assert len(asked) == 8


def test_what_was_found_is_kept_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[dict[str, str]] = [{"id": str(n), "a": f"row {n}", "b": "yes"} for n in range(3)]
    source = [([*rows, {"id": "x", "a": QUESTION, "b": "no"}], dict(CHAT))]
    first = leaky(tmp_path, source)
    assert first.share("s/t") == 1.0
    kept = list((tmp_path / "cache" / "contamination").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(contamination, "check", None)
        assert leaky(tmp_path, source) == first
    kept[0].write_text("[1]", encoding="utf-8")
    assert leaky(tmp_path, source) == first
    assert leaky(tmp_path, [(rows, dict(CHAT))]).share("s/t") == 0.0
    assert len(list((tmp_path / "cache" / "contamination").iterdir())) == 2
