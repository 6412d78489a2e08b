"""Scores of lm-eval's tasks, sample by sample, against lm-eval itself on the same tiny model.

The task files are lm-eval's own, with rows of this file in place of those from the hub.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.backends.base import Candidate
from harness.core.errors import UserError
from harness.evaluation.runner import score
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from tests.harness.suite_builders import scripted, write_jsonl
from tests.tiny import tiny_model, tiny_tokenizer

lm_eval = pytest.importorskip("lm_eval")

WORDS = ("fox", "lazy dog", "table for two", "Paris", "the park", "seven", "a name", "weather")


def sums(first: int) -> list[Mapping[str, Any]]:
    return [
        {"question": f"What is {n} + {n}?", "answer": f"{n} + {n} = {n + n}\n#### {n + n}"}
        for n in range(first, first + 7)
    ]


def choices(n: int) -> list[str]:
    return [WORDS[(n * 3 + k * (n + 1)) % len(WORDS)] + "." * k for k in range(4)]


ARC: list[Mapping[str, Any]] = [
    {
        "question": f"Which one is number {n}?",
        "choices": {"text": choices(n), "label": ["A", "B", "C", "D"]},
        "answerKey": "ABCD"[n % 4],
    }
    for n in range(7)
]
MMLU: list[Mapping[str, Any]] = [
    {"question": f"Which one is it, {n}? ", "choices": choices(n), "answer": n % 4}
    for n in range(7)
]
HELLASWAG: list[Mapping[str, Any]] = [
    {
        "activity_label": "Walking",
        "ctx_a": f"The {word} is here.",
        "ctx_b": "then it [title] goes",
        "endings": [f"to  {ending}" for ending in choices(n)],
        "label": str(n % 4),
    }
    for n, word in enumerate(WORDS)
]
TRUTHFUL: list[Mapping[str, Any]] = [
    {
        "question": f"Where is the {word}?",
        "mc1_targets": {"choices": choices(n), "labels": [1, 0, 0, 0]},
        "mc2_targets": {"choices": choices(n), "labels": [1, 1, 0, 0]},
    }
    for n, word in enumerate(WORDS)
]
IFEVAL: list[Mapping[str, Any]] = [
    {
        "key": n,
        "prompt": f"Write of {word} without commas.",
        "instruction_id_list": [
            "punctuation:no_comma",
            *(["keywords:existence"] if n % 2 else []),
        ],
        "kwargs": [{}, *([{"keywords": [word]}] if n % 2 else [])],
    }
    for n, word in enumerate(WORDS)
]
SHORT = {"max_gen_toks": 12, "do_sample": False}
TASKS: dict[str, tuple[str, list[Mapping[str, Any]], dict[str, Any], list[str]]] = {
    # name: lm-eval's file, rows, what is set on top of it, metrics
    "gsm8k": (
        "gsm8k/gsm8k.yaml",
        sums(3),
        {"num_fewshot": 2, "generation_kwargs": {"until": ["Question:", "<|im_end|>"], **SHORT}},
        ["exact_match@strict-match", "exact_match@flexible-extract"],
    ),
    "ifeval": (
        "ifeval/ifeval.yaml",
        IFEVAL,
        {"generation_kwargs": {"until": [], **SHORT}},
        ["prompt_level_strict_acc", "prompt_level_loose_acc"],
    ),
    "arc": ("arc/arc_easy.yaml", ARC, {}, ["acc", "acc_norm"]),
    "mmlu": (
        "mmlu/default/mmlu_anatomy.yaml",
        MMLU,
        {"num_fewshot": 2},
        ["acc"],
    ),
    "mmlu_said": (
        "mmlu/generative/mmlu_anatomy.yaml",
        MMLU,
        {"generation_kwargs": {"until": ["</s>", "\n"], **SHORT}},
        ["exact_match"],
    ),
    "hellaswag": ("hellaswag/hellaswag.yaml", HELLASWAG, {"num_fewshot": 1}, ["acc", "acc_norm"]),
    "mc1": ("truthfulqa/truthfulqa_mc1.yaml", TRUTHFUL, {}, ["acc"]),
    "mc2": ("truthfulqa/truthfulqa_mc2.yaml", TRUTHFUL, {}, ["acc"]),
    "prefixed": (
        "arc/arc_easy.yaml",
        ARC,
        {"num_fewshot": 1, "gen_prefix": "The answer is", "description": "Choose well.\n\n"},
        ["acc", "acc_norm"],
    ),
}
CHOSEN = {"arc", "mmlu", "hellaswag", "mc1", "mc2", "prefixed"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tasks, by their names, where suites and lm-eval find them."""
    folder = tmp_path_factory.mktemp("tasks")
    own = folder / "lm_eval"
    own.mkdir()
    for name, (file, rows, changes, _) in TASKS.items():
        data = write_jsonl(own / f"{name}.jsonl", list(rows))
        shots = write_jsonl(own / f"{name}.train.jsonl", [*rows[2:], *rows[:2]])
        files = {"train": str(shots), "dev": str(shots)}
        files |= {"validation": str(data), "test": str(data)}
        task = {
            "include": str(Path(lm_eval.__file__).parent / "tasks" / file),
            "task": f"own_{name}",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files},
            "tag": None,
            **changes,
        }
        (own / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return folder


@pytest.fixture(scope="module")
def model() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer()
    return tiny_model(len(tokenizer), max_position_embeddings=1536), tokenizer


def theirs(folder: Path, model: tuple[Any, Any], names: list[str], *, chat: bool) -> Any:
    """lm-eval's samples: of each task's name and filter, by document."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        found = simple_evaluate(
            HFLM(pretrained=model[0], tokenizer=model[1], batch_size=1),
            tasks=[f"own_{name}" for name in names],
            apply_chat_template=chat,
            bootstrap_iters=0,
            task_manager=TaskManager(include_defaults=False, include_path=str(folder / "lm_eval")),
        )
    return found


def ours(
    folder: Path, model: tuple[Any, Any], store: Store, names: list[str], *, chat: bool
) -> tuple[dict[tuple[str, str, str], float], dict[tuple[str, str], list[str]]]:
    """(value by task, metric and sample; texts that were written by task and sample)."""
    from harness.backends.transformers.backend import TransformersBackend

    asked: dict[str, Any] = {"messages": "{{ messages }}", "prefill": "{{ prefill }}"}
    if not chat:
        asked = {"user": "{{ context }}", "raw": True}
    tasks = {
        name: {
            "data": f"lm_eval:own_{name}",
            "prompt": asked,
            "metrics": [f"lm_eval:{metric}" for metric in TASKS[name][3]],
            **({"choices": "choices" if chat else "continuations"} if name in CHOSEN else {}),
        }
        for name in names
    }
    path = folder / f"suite-{chat}.yaml"
    path.write_text(yaml.safe_dump({"name": "borrowed", "tasks": tasks}))
    backend = TransformersBackend(*model)
    candidate = Candidate("tiny", "0" * 64, backend.subject, lambda: backend)
    run = score(candidate, load_suite(path), store).run
    scores = store.query("SELECT * FROM scores WHERE run_id = ?", [run.id])
    said = store.query("SELECT * FROM responses WHERE kind = 'generation'")
    texts: dict[tuple[str, str], list[str]] = {}
    for row in said:
        texts.setdefault((row["task"], row["sample_id"]), []).append(row["text"])
    values = {
        (row["task"], row["metric"].removeprefix("lm_eval:"), row["sample_id"]): row["value"]
        for row in scores
    }
    return values, texts


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("chat", [True, False])
def test_each_sample_has_lm_evals_own_value(
    folder: Path, model: tuple[Any, Any], store: Store, chat: bool
) -> None:
    names = list(TASKS)
    found = theirs(folder, model, names, chat=chat)
    values, texts = ours(folder, model, store, names, chat=chat)
    for name in names:
        rows = {}
        for sample in found["samples"][f"own_{name}"]:
            at = str(sample["doc_id"] + 1)
            for metric in TASKS[name][3]:
                called, _, filtered = metric.partition("@")
                if filtered in ("", sample["filter"]):
                    rows[metric, at] = float(sample[called])
            if name not in CHOSEN:
                assert texts[name, at] == sample["resps"][0], (name, at)
        got = {(metric, at): value for (task, metric, at), value in values.items() if task == name}
        assert got == pytest.approx(rows, abs=1e-6), name
        for metric in TASKS[name][3]:
            mean = [value for (of, _), value in got.items() if of == metric]
            called, _, filtered = metric.partition("@")
            results = found["results"][f"own_{name}"]
            key = next(k for k in results if k.startswith(f"{called},{filtered}"))
            assert sum(mean) / len(mean) == pytest.approx(results[key])
    assert len({round(value, 6) for value in values.values()}) > 2


GSM8K = "lm_eval:lm_eval/gsm8k.yaml"
SAID = {
    "3 + 3": "3 + 3 = 6\n#### 6",
    "4 + 4": "It is 8.",
    "5 + 5": "#### 11, no: #### 10",
    "6 + 6": "The answer is $1,2.",
    "7 + 7": "",
    "8 + 8": "sixteen",
    "9 + 9": "18 Question: #### 19",
}


def test_filters_and_metrics_of_a_task_read_answers_as_lm_eval_does(
    folder: Path, store: Store
) -> None:
    from lm_eval.api.model import LM
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    class Said(LM):
        """Answers from the table above, cut at the first stop text."""

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            asked = [(one.args[0], one.args[1]["until"][0]) for one in requests]
            found = [(next(s for q, s in SAID.items() if q in text), stop) for text, stop in asked]
            return [said.split(stop)[0] for said, stop in found]

        def loglikelihood(self, requests: Any) -> Any: ...

        def loglikelihood_rolling(self, requests: Any) -> Any: ...

    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        found = simple_evaluate(
            Said(), tasks=["own_gsm8k"], num_fewshot=0, bootstrap_iters=0,
            task_manager=TaskManager(include_defaults=False, include_path=str(folder / "lm_eval")),
        )  # fmt: skip
    task = {
        "data": f"{GSM8K}:0",
        "prompt": {"messages": "{{ messages }}"},
        "metrics": ["lm_eval:exact_match", "lm_eval:exact_match@flexible-extract"],
        "generate": {"max_new_tokens": 64},
    }
    suite = written(folder, task)
    assert suite.tasks[0].settings.stop == ("Question:", "<|im_end|>")
    candidate, _ = scripted(SAID)
    run = score(candidate, suite, store).run
    rows = store.query("SELECT * FROM scores WHERE run_id = ?", [run.id])
    got = {(row["metric"].partition("@")[2], row["sample_id"]): row["value"] for row in rows}
    for sample in found["samples"]["own_gsm8k"]:
        name = "" if sample["filter"] == "strict-match" else sample["filter"]
        assert got[name, str(sample["doc_id"] + 1)] == sample["exact_match"], sample
    assert sorted(got.values()).count(1.0) > 4


def written(folder: Path, task: Mapping[str, Any]) -> Suite:
    path = folder / "one.yaml"
    path.write_text(yaml.safe_dump({"name": "one", "tasks": {"t": task}}))
    return load_suite(path)


def test_what_the_suite_says_of_generation_stands_before_the_tasks_own(folder: Path) -> None:
    prompt = {"messages": "{{ messages }}", "prefill": "{{ prefill }}"}
    task = {
        "data": GSM8K,
        "prompt": prompt,
        "metrics": ["lm_eval:exact_match"],
    }
    (usual,) = written(folder, task).tasks
    assert usual.settings.max_new_tokens == 12
    (longer,) = written(folder, {**task, "generate": {"max_new_tokens": 99}}).tasks
    assert (longer.settings.max_new_tokens, longer.settings.stop) == (99, usual.settings.stop)
    assert longer.digest != usual.digest
    assert [turn["role"] for turn in usual.samples[0].prompt] == ["user", "assistant"] * 2 + [
        "user"
    ]
    begun = {**task, "data": "lm_eval:lm_eval/prefixed.yaml", "choices": "choices"}
    (prefixed,) = written(folder, {**begun, "metrics": ["lm_eval:acc"]}).tasks
    assert prefixed.samples[0].options.prefill == "The answer is"
    assert prefixed.samples[0].prompt[0] == {"role": "system", "content": "Choose well.\n\n"}
    assert all(text.startswith(" ") for text in prefixed.samples[0].references)


@pytest.mark.parametrize(
    ("data", "metric", "wanted"),
    [
        (GSM8K, "lm_eval:acc", "has no metric 'acc'"),
        (GSM8K, "lm_eval:exact_match@loose", "has no filter 'loose'"),
        (
            "lm_eval:lm_eval/ifeval.yaml",
            "lm_eval:inst_level_strict_acc",
            "no mean over",
        ),
        ("lm_eval:lm_eval/arc.yaml", "lm_eval:acc", "the task has none"),
        ("rows.jsonl", "lm_eval:acc", "these are others"),
    ],
)
def test_a_metric_that_a_task_has_not_is_one_message(
    folder: Path, data: str, metric: str, wanted: str
) -> None:
    write_jsonl(folder / "rows.jsonl", [{"messages": [{"role": "user", "content": "x"}]}])
    task = {"data": data, "prompt": {"messages": "{{ messages }}"}, "metrics": [metric]}
    with pytest.raises(UserError, match=wanted) as error:
        written(folder, task)
    assert error.value.line is not None
    assert error.value.hint


@pytest.mark.parametrize("name", ["gsm8k", "ifeval"])
def test_a_suite_is_the_same_wherever_its_folder_stands(
    folder: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "lm_eval").mkdir()
    for file in (folder / "lm_eval").glob(f"{name}.*"):
        moved = file.read_text().replace(str(folder), str(tmp_path))
        (tmp_path / "lm_eval" / file.name).write_text(moved)
    task = {
        "data": f"lm_eval:lm_eval/{name}.yaml",
        "prompt": {"messages": "{{ messages }}"},
        "metrics": [f"lm_eval:{TASKS[name][3][0]}"],
    }
    assert written(tmp_path, task).digest == written(folder, task).digest


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"doc_to_text": "{{ nobody.knows }}"}, "can't load"),
        (
            {"doc_to_text": "{{ nobody.knows if '5' in question else question }}"},
            "can't be read as rows: 'nobody' is undefined",
        ),
        ({"doc_to_text": "{{ question", "num_fewshot": 1}, "can't (load|be read)"),
        ({"generation_kwargs": {"until": [], "max_gen_toks": "many"}}, "as its file says"),
        ({"generation_kwargs": {"until": [], "max_gen_toks": 10**6}}, "max_new_tokens"),
        ({"output_type": "loglikelihood"}, "of the kind 'loglikelihood'"),
    ],
)
def test_a_damaged_task_is_one_message(
    folder: Path, changes: Mapping[str, Any], wanted: str
) -> None:
    task = yaml.safe_load((folder / "lm_eval" / "gsm8k.yaml").read_text())
    (folder / "lm_eval" / "bad.yaml").write_text(yaml.safe_dump({**task, **changes}))
    with pytest.raises(UserError, match=wanted):
        written(
            folder,
            {
                "data": "lm_eval:lm_eval/bad.yaml",
                "prompt": {"messages": "{{ messages }}"},
                "metrics": ["lm_eval:exact_match"],
            },
        )
    (folder / "lm_eval" / "bad.yaml").unlink()
