"""`ratchet follow` beside a job that TRL runs: what it says, writes, keeps, and leaves alone."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from harness.core.files import sha256_of_file
from harness.core.workspace import Workspace
from harness.models import kept_base
from harness.models.resolve import load
from harness.registry.registry import Registry
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.openai_server import serving_adapters
from tests.trainers.training_driver import Quiet
from tests.trainers.warm_process import Warm
from tests.trainers.wrap.wrap_builders import Fault, lora, sft, suite_in
from trainers.wrap.follow import Follower, follow
from trainers.wrap.followed import Follow

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """What TRL's SFTTrainer wrote: checkpoints 3, 6, 9 and 12, the last two of a spoiled model."""
    folder = tmp_path_factory.mktemp("job")
    suite_in(folder, tiny_llama)
    trainer = sft(folder / "out", tiny_llama)
    trainer.add_callback(Fault(8, "noise"))
    trainer.train()
    return folder


@pytest.fixture
def copied(job: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(job, tmp_path / "job"))


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    ours = folder / "ratchet"
    return {
        str(path.relative_to(folder)): sha256_of_file(path)
        for path in found
        if ours not in path.parents
    }


def ratchet_follow(folder: Path, *more: str) -> int:
    suite, home = str(folder / "suite.yaml"), str(folder / "home")
    words = ["follow", str(folder / "out"), "--suite", suite, "--home", home, "--device", "cpu"]
    return main([*words, *more])


def verdict(folder: Path, step: int) -> dict[str, Any]:
    path = folder / "out" / "ratchet" / f"step-{step:06d}" / "verdict.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_it_judges_until_one_fails_and_exits_1(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(copied / "out")
    assert ratchet_follow(copied) == 1
    said = capsys.readouterr().out
    assert "The anchor is checkpoint-3" in said
    assert "FAIL" in said
    assert files(copied / "out") == before
    better, worse = verdict(copied, 6), verdict(copied, 9)
    assert (better["outcome"], better["best"]) == ("pass", True)
    assert (worse["outcome"], worse["best"]) == ("fail", False)
    assert "fail" in {each["outcome"] for each in worse["verdicts"]}
    assert {each["against"] for each in worse["verdicts"]} == {"anchor", "best checkpoint"}
    best = copied / "out" / "ratchet" / "best"
    assert best.resolve() == (copied / "out" / "checkpoint-6").resolve()
    assert not (copied / "out" / "ratchet" / "step-000012").exists()
    # Alpha is split over what the Trainer itself planned: four checkpoints, two opponents.
    assert worse["verdicts"][0]["policy_alpha"] == pytest.approx(0.05 / 8)


def test_it_acts_on_each_failure_and_ends_with_the_plan(copied: Path) -> None:
    command = f'echo "$RATCHET_STEP $RATCHET_BEST" >> {copied / "heard"}'
    code = ratchet_follow(
        copied, "--on-fail", command, "--stop-file", str(copied / "STOP"), "--line", "tiny"
    )
    assert code == 1
    heard = (copied / "heard").read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in heard] == ["9", "12"]
    assert all(line.endswith("checkpoint-6") for line in heard)
    assert "checkpoint-" in (copied / "STOP").read_text(encoding="utf-8")
    with Store(copied / "home") as store:
        promoted = Registry(store.workspace, store).promoted("tiny")
    assert promoted is not None
    # Nothing is scored, and nobody called, a second time.
    assert (
        ratchet_follow(
            copied, "--on-fail", command, "--stop-file", str(copied / "STOP"), "--line", "tiny"
        )
        == 1
    )
    assert (copied / "heard").read_text(encoding="utf-8").splitlines() == heard


@pytest.mark.long
def test_a_server_answers_for_the_adapters_of_the_job(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It judges as it does where they are read here, on one base, and ends as it began."""
    suite_in(tmp_path / "here", tiny_llama)
    trainer = sft(tmp_path / "here" / "out", tiny_llama, peft=lora(), learning_rate=0.03)
    trainer.add_callback(Fault(8, "noise"))
    trainer.train()
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    base = ("--base", str(tiny_llama))
    read: list[str] = []
    monkeypatch.setattr(kept_base, "load", lambda f, **k: read.append(f.name) or load(f, **k))
    assert ratchet_follow(tmp_path / "here", *base) == 1
    assert len(read) == 1  # the base; its adapters take turns on it
    with serving_adapters(tiny_llama, Workspace.at(tmp_path / "server")) as server:
        described = tmp_path / "vllm.yaml"
        described.write_text(f"url: {server.url}\nweights: {tiny_llama}\n", encoding="utf-8")
        assert ratchet_follow(tmp_path / "there", *base, "--score-on", f"openai:{described}") == 1
        assert any(path.endswith("load_lora_adapter") for path, _ in server.asked)
        assert not server.adapters
    for step in (6, 9):
        mine, theirs = (verdict(tmp_path / name, step) for name in ("here", "there"))
        assert (mine["outcome"], mine["best"]) == (theirs["outcome"], theirs["best"])


def asked(folder: Path, **more: Any) -> Follow:
    out = folder / "out"
    suite = load_suite(folder / "suite.yaml")
    return Follow(folder=out, suite=suite, out=out / "ratchet", layout="auto", **more)


def test_the_best_checkpoint_is_kept_when_its_job_deletes_it(
    copied: Path, tiny_llama: Path
) -> None:
    out = copied / "out"
    for step in (9, 12):
        shutil.move(out / f"checkpoint-{step}", copied / f"later-{step}")
    workspace = Workspace.at(copied / "home").ensure()
    with Store(workspace) as store:
        follower = Follower(asked(copied), workspace, store, Quiet())
        assert not follower.poll()
        best = out / "ratchet" / "best"
        assert best.resolve().name == "checkpoint-6"
        shutil.rmtree(out / "checkpoint-6")
        shutil.move(copied / "later-9", out / "checkpoint-9")
        assert follower.poll()
        assert follower.failed
    assert best.resolve().parent == workspace.checkpoints
    assert (best / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "after", [4, 9, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 6, 7, 11, 14))]
)
def test_interrupted_anywhere_it_goes_on(copied: Path, after: int) -> None:
    workspace = Workspace.at(copied / "home").ensure()
    request = asked(copied, on_fail=f"echo $RATCHET_STEP >> {copied / 'heard'}")
    with Store(workspace) as store, pytest.raises(KeyboardInterrupt):
        follow(
            Follower(request, workspace, store, Quiet(interrupt_at=after)), every_s=0, once=False
        )
    with Store(workspace) as store:
        assert follow(Follower(request, workspace, store, Quiet()), every_s=0, once=False) == 1
        runs = store.query("SELECT count(DISTINCT run_id) AS n FROM runs")
    heard = (copied / "heard").read_text(encoding="utf-8").split()
    assert sorted(set(heard)) == ["12", "9"]
    assert [verdict(copied, step)["outcome"] for step in (6, 9, 12)] == ["pass", "fail", "fail"]
    assert runs[0]["n"] == 4


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as warm:
        yield warm


@pytest.mark.long
@pytest.mark.parametrize(
    "fault",
    [
        "before-judgement:1",
        "before-judgement:3",
        "before-rollback:1",
        "before-rollback:2",
        "mid-append:20",
    ],
)
def test_killed_anywhere_it_goes_on(copied: Path, warm: Warm, fault: str) -> None:
    words = [
        "follow",
        str(copied / "out"),
        "--suite",
        str(copied / "suite.yaml"),
        "--device",
        "cpu",
    ]
    words += ["--home", str(copied / "home"), "--on-fail", f"echo x >> {copied / 'heard'}"]
    killed = warm.start(words, copied / "out.txt", RATCHET_FAULT=fault)
    assert killed.wait(timeout=240) == -9
    again = warm.start(words, copied / "out.txt")
    assert again.wait(timeout=240) == 1, (copied / "out.txt").read_text(errors="replace")
    assert [verdict(copied, step)["outcome"] for step in (6, 9, 12)] == ["pass", "fail", "fail"]
    assert len((copied / "heard").read_text(encoding="utf-8").split()) >= 2
    assert (copied / "out" / "ratchet" / "best").resolve().name == "checkpoint-6"


def test_weights_and_tokenizer_that_lie_apart_against_a_named_anchor(
    copied: Path, tiny_llama: Path
) -> None:
    """As NeMo-RL has them, on a layout made from its documentation."""
    out = copied / "nemo"
    for step in (3, 6):
        source, place = copied / "out" / f"checkpoint-{step}", out / f"step_{step}"
        weights, tokens = (
            place / "policy" / "weights" / "model" / "consolidated",
            place / "policy" / "tokenizer",
        )
        for folder, names in (
            (weights, ("config.json", "model.safetensors")),
            (tokens, ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")),
        ):
            folder.mkdir(parents=True)
            for name in names:
                shutil.copy(source / name, folder / name)
        (place / "training_info.json").write_text("{}")
    (copied / "out").rename(copied / "hf")
    out.rename(copied / "out")
    more = ["--against", str(tiny_llama), "--once"]
    assert ratchet_follow(copied, *more) == 3
    assert ratchet_follow(copied, "--planned", "5", *more) == 0
    assert verdict(copied, 6)["outcome"] == "pass"
    assert verdict(copied, 3)["outcome"] == "pass"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--layout", "swift"], "no layout 'swift'"),
        (["--tokenizer", "nowhere"], "no such folder"),
        (["--against", "run:nothing", "--once"], "nothing"),
    ],
)
def test_bad_input_is_one_message(
    copied: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert ratchet_follow(copied, *more) == 3
    caught = capsys.readouterr()
    assert said in caught.err + caught.out
    assert "Traceback" not in caught.err
    if (copied / "home").exists():
        with Store(copied / "home") as store:
            assert store.query("SELECT * FROM trainings") == []


def commands() -> list[str]:
    """Those of docs/wrap.md."""
    page = (ROOT / "docs" / "wrap.md").read_text(encoding="utf-8")
    return re.findall(r"^(ratchet follow .*)$", page, re.MULTILINE)


def test_the_commands_of_the_page_are_understood(
    copied: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each with an empty folder, where it finds nothing; the first one where there is a job."""
    found = commands()
    assert len(found) >= 5
    (tmp_path / "empty" / "out").mkdir(parents=True)
    shutil.copytree(copied, tmp_path / "full")
    for place, given in (("empty", found), ("full", found[:1])):
        shutil.copy(copied / "suite.yaml", tmp_path / place)
        shutil.copy(copied / "heldout.jsonl", tmp_path / place)
        monkeypatch.chdir(tmp_path / place)
        for command in given:
            words = shlex.split(command.replace("cuda:1", "cpu"))[1:]
            once = [] if "--once" in words else ["--once"]
            assert main([*words, *once]) == (0 if place == "empty" else 1), command
