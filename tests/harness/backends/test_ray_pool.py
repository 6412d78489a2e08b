"""A model on two Ray nodes: the same numbers, and nothing lost when a replica or a node is."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.backends.base import Candidate, GenerationRequest, GenerationSettings
from harness.backends.ray import pool as ray_pool
from harness.backends.ray.cluster import ModelReplica
from harness.backends.ray.pool import RayPool, Share
from harness.core.errors import UnfinishedError, UserError
from harness.core.workspace import Workspace
from harness.evaluation.runner import score
from harness.models.resolve import load, resolve
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite_builders import Ratchet, suite_yaml, write_jsonl
from tests.ray_nodes import ROOT, Deadly, add_node, dies_while_it_opens

SAMPLED = GenerationSettings(max_new_tokens=8, temperature=1.0)
TWO = Share(2)


def test_ray_that_is_not_installed_is_named_with_its_hint(
    tmp_path: Path, ratchet: Ratchet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ray", "ray.util"):
        monkeypatch.setitem(sys.modules, name, None)
    code, said = ratchet("score", "x", "--suite", suite_yaml(tmp_path), "--executor", "ray")
    assert code == 3
    assert "Ray is not installed" in said
    assert "pip install 'ratchet-eval[ray]'" in said


def test_a_missing_cluster_is_reported_at_once(
    tmp_path: Path, ratchet: Ratchet, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ratchet-eval[ray]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    code, said = ratchet("score", "x", "--suite", suite_yaml(tmp_path), "--executor", "ray")
    assert code == 3
    assert "no Ray cluster can be reached at 127.0.0.1:1" in said
    assert "ray start --head" in said


@pytest.mark.long
def test_an_address_without_a_ray_head_is_not_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'ratchet-eval[ray]'")
    code = (
        "import os, socket; from harness.backends.ray import cluster\n"
        "from harness.core.errors import UserError\n"
        "deaf = socket.create_server(('127.0.0.1', 0)); cluster.CONNECT_S = 2.0\n"
        "os.environ['RAY_ADDRESS'] = f'127.0.0.1:{deaf.getsockname()[1]}'\n"
        "try: cluster.connect()\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "no answer in 2 s" in done.stdout


def _replica(folder: Path, home: Path) -> ModelReplica:
    digest = resolve(str(folder), Workspace.at(home)).digest
    return ModelReplica(str(folder), None, digest, "cpu", "float32")


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def _requests(pool: Any, count: int, marked: tuple[int, ...] = ()) -> list[GenerationRequest]:
    prompts = [pool.encode(f"question {number}") for number in range(count)]
    return [
        GenerationRequest(str(n), (*prompt, pool.marker) if n in marked else prompt, (n, n + 1))
        for n, prompt in enumerate(prompts)
    ]


def _scores(store: Store) -> dict[tuple[Any, ...], tuple[float | None, list[float]]]:
    rows = store.query("SELECT * FROM current_scores ORDER BY seq")
    return {
        (row["run_id"], row["task"], row["metric"], row["sample_id"], row["response_index"]): (
            row["value"],
            row["stats"],
        )
        for row in rows
    }


def _asked(store: Store) -> dict[str, str | None]:
    return {row["key"]: row["asked"] for row in store.query("SELECT key, asked FROM responses")}


def _as_documented(folder: Path, suite: Path) -> list[str]:
    """The page's own command, with this model and suite in the place of the page's."""
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    (command,) = (line for line in page.splitlines() if line.startswith("ratchet score"))
    mine = {"./my-model": str(folder), "suites/chat-en.yaml": str(suite)}
    return [mine.get(word, word) for word in shlex.split(command)[1:]]


@pytest.mark.long
def test_two_nodes_give_the_numbers_of_one_process(
    tmp_path: Path,
    tiny_llama: Path,
    two_nodes: Any,
    ratchet: Ratchet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["score", tiny_llama, "--suite", suite_yaml(tmp_path), "--dtype", "float32"]
    code, said = ratchet(*_as_documented(tiny_llama, tmp_path / "suite.yaml"), "--dry-run")
    assert code == 0, said
    assert "ask: 5 of 5 answers" in said
    code, said = ratchet(*words, "--executor", "ray")
    assert code == 0, said
    assert "Opening 2 replicas on Ray" in said
    with Store(Workspace.at()) as store:
        spread, asked = _scores(store), _asked(store)
    code, said = ratchet(*words, "--device", "cpu")
    assert code == 0
    assert "Nothing was generated" in said

    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "alone"))
    code, said = ratchet(*words, "--device", "cpu")
    assert code == 0, said
    with Store(Workspace.at()) as store:
        alone = _scores(store)
        assert asked == _asked(store)
    assert None not in asked.values()
    assert spread.keys() == alone.keys()
    assert len(alone) >= 20
    for place, (value, stats) in alone.items():
        # Relative as well: the perplexity of a random model is in the thousands.
        assert spread[place][0] == pytest.approx(value, abs=1e-5, rel=1e-5)
        assert spread[place][1] == pytest.approx(stats, abs=1e-5, rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("once", [True, False])
def test_a_request_that_ends_its_replica_is_asked_again_and_then_an_error(
    tmp_path: Path, tiny_llama: Path, two_nodes: Any, once: bool
) -> None:
    from harness.backends.transformers.backend import TransformersBackend

    alone: Any = TransformersBackend(*load(resolve(str(tiny_llama), Workspace.at(tmp_path))))
    marker = alone.marker = len(alone.tokenizer) - 1
    said: list[str] = []
    opener = Deadly(str(tiny_llama), marker, str(tmp_path / "died") if once else None)
    pool = RayPool(opener, alone.tokenizer, TWO, say=said.append)
    requests = _requests(alone, 40, marked=(17,))
    assert all(
        marker not in request.prompt_ids for number, request in enumerate(requests) if number != 17
    )
    found = {(a.request_id, a.position): a for a in pool.generate(requests, SAMPLED)}
    expected = {(a.request_id, a.position): a for a in alone.generate(requests, SAMPLED)}
    assert found.keys() == expected.keys()
    for place, answer in found.items():
        if place[0] == "17" and not once:
            assert answer.finish_reason == "error"
            assert "4 replicas were lost while they answered it" in (answer.error or "")
        else:
            assert (answer.text, answer.error) == (expected[place].text, None)
    lost = [line for line in said if "was lost: its process died" in line]
    assert len(lost) == (1 if once else 4)
    assert all("A new one is being started" in line for line in lost)


@pytest.mark.long
def test_no_answer_is_lost_with_a_node(
    tmp_path: Path, tiny_llama: Path, two_nodes: Any, store: Store
) -> None:
    rows = [{"id": f"t{n}", "topic": f"{n} " * (n % 7)} for n in range(400)]
    write_jsonl(tmp_path / "topics.jsonl", rows)
    tasks = {
        "talk": {
            "data": "topics.jsonl",
            "prompt": {"user": "Tell me of {{ topic }}."},
            "generate": {"responses": 2, "temperature": 1.0, "max_new_tokens": 32},
            "metrics": ["self_bleu"],
        }
    }
    suite = load_suite(suite_yaml(tmp_path, tasks=tasks))
    third = add_node(two_nodes)
    two_nodes.wait_for_nodes()
    replica = _replica(tiny_llama, tmp_path / "home")
    said: list[str] = []
    removed = False

    def opened() -> RayPool:
        pool = RayPool(replica, _tokenizer(tiny_llama), Share(3), say=said.append)
        pool.wait_for_all()
        return pool

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal removed
        if stage.startswith("generate") and done and not removed:
            removed = True
            two_nodes.remove_node(third, allow_graceful=False)

    subject = {"backend": "transformers", "dtype": "float32", "quantisation": None}
    candidate = Candidate("tiny", replica.digest, subject, opened)
    report = score(candidate, suite, store, progress=progress)
    assert removed
    assert (report.fresh, report.failed) == (800, 0)
    kept = store.query("SELECT count(*) AS n, count(DISTINCT key) AS keys FROM responses")[0]
    assert (kept["n"], kept["keys"]) == (800, 800)
    assert any("was lost: its node" in line for line in said), said


@pytest.mark.long
def test_other_bytes_on_a_node_are_refused(
    tmp_path: Path, tiny_llama: Path, two_nodes: Any
) -> None:
    replica = ModelReplica(str(tiny_llama), None, "0" * 64, "cpu", "float32")
    with pytest.raises(UserError, match=r"on node .* has other files here") as caught:
        RayPool(replica, _tokenizer(tiny_llama), TWO)
    assert "share" in (caught.value.hint or "")


@pytest.mark.long
def test_replicas_that_never_start_end_the_run_without_a_verdict(
    tiny_llama: Path, two_nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "LIVES", 2)
    said: list[str] = []
    with pytest.raises(UnfinishedError, match="no replica is left"):
        RayPool(dies_while_it_opens, _tokenizer(tiny_llama), TWO, say=said.append)
    assert sum("given up" in line for line in said) == 2
    with pytest.raises(UnfinishedError, match="each needs 64 cores"):
        RayPool(dies_while_it_opens, _tokenizer(tiny_llama), Share(1, cpus=64), patience_s=0.0)
