"""The public face: what `from harness import …` gives, in any order of imports, at what cost."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import harness
import harness.gate.decision
from harness import Store, UserError, Verdict, gate, load_suite, open_model, score
from tests.harness.suite_builders import scripted, suite_yaml

ROOT = Path(__file__).parents[2]


def fresh(program: str, folder: Path) -> str:
    """What a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_harness_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = ["torch", "transformers", "duckdb", "numpy", "pydantic", "scipy", "pandas", "rich"]
    loaded = f"[name for name in {heavy} if name in sys.modules]"
    assert fresh(f"import harness, sys; print({loaded})", tmp_path) == "[]\n"
    program = f"from harness import gate, UserError; import sys; print({loaded}, len(dir(gate)))"
    assert fresh(program, tmp_path).startswith("[] ")


@pytest.mark.parametrize(
    "before", ["", "import harness.gate.decision", "from harness.gate.policy import GatePolicy"]
)
@pytest.mark.parametrize("after", ["", "import harness.gate.decision"])
def test_gate_is_the_function_and_the_package_in_any_order(
    tmp_path: Path, before: str, after: str
) -> None:
    program = "\n".join(
        [
            before,
            "from harness import gate",
            "import harness",
            after,
            "print(gate([1.0] * 30, [1.0] * 30).headline)",
            "print(harness.gate([0.0] * 30, [1.0] * 30).headline)",
            "import harness.gate.decision as decision",
            "print(harness.gate.decision.decide is decision.decide)",
            "from harness import gate as again",
            "print(again is gate)",
        ]
    )
    said = fresh(program, tmp_path).splitlines()
    assert said[0].startswith("INCONCLUSIVE")
    assert said[1].startswith("FAIL")
    assert said[2:] == ["True", "True"]


def test_gate_has_its_signature_and_can_be_pickled(tmp_path: Path) -> None:
    names = list(inspect.signature(gate).parameters)
    assert names[:3] == ["candidate", "against", "policy"]
    assert callable(gate)
    assert pickle.loads(pickle.dumps(gate)) is gate
    path = tmp_path / "gate.pickle"
    path.write_bytes(pickle.dumps(gate))
    program = "import pickle; print(pickle.load(open('gate.pickle', 'rb'))([0] * 30, [1] * 30))"
    assert fresh(program, tmp_path).startswith("FAIL")


def test_every_name_of_the_face_is_there() -> None:
    assert set(harness.__all__) <= set(dir(harness))
    for name in harness.__all__:
        found = getattr(harness, name)
        assert callable(found), name
        assert inspect.getdoc(found), name
    with pytest.raises(AttributeError, match="nonesuch"):
        harness.nonesuch  # noqa: B018
    with pytest.raises(ImportError):
        from harness import nonesuch  # noqa: F401


def test_score_and_gate_models_and_runs(tmp_path: Path) -> None:
    suite = load_suite(suite_yaml(tmp_path))
    model = scripted()[0]
    with Store(tmp_path / "home") as store:
        run = score(model, suite, store=store)
        again = score(model, suite.path, store=store)
        verdict = gate(run, f"run:{run.id}", store=store)
        other = gate(scripted(lambda prompt, seed: "?", name="mute")[0], run, store=store)
    assert again.id == run.id
    assert run.generated > 0
    assert again.generated == 0
    assert run.values["ask/exact_match"] == 1.0
    first, _, head, *_ = repr(run).splitlines()
    assert first == f"run:{run.id}  scripted on capitals"
    assert head.split()[:2] == ["metric", "value"]
    assert isinstance(verdict, Verdict)
    assert verdict.notes["anchor"] == f"run:{run.id}"
    assert verdict.outcome.value in ("pass", "inconclusive")
    assert other.row("ask/exact_match").outcome.value != "pass"


def test_a_store_may_be_named_by_its_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RATCHET_HOME", raising=False)
    suite = suite_yaml(tmp_path)
    run = score(scripted()[0], suite, store="here")
    assert gate(run, run, store=tmp_path / "here").outcome.value != "fail"
    assert not (tmp_path / ".ratchet").exists()
    with pytest.raises(UserError, match="no run"):
        gate(f"run:{run.id}", f"run:{run.id}")


def test_a_model_that_is_open_is_loaded_once(tmp_path: Path, tiny_llama: Path) -> None:
    with Store(tmp_path / "home") as store:
        model = open_model(tiny_llama, device="cpu", store=store)
    assert model.open() is model.open()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda suite: score("nonesuch-model", suite), "nonesuch-model"),
        (lambda suite: score(scripted()[0], "nonesuch.yaml"), "no such suite"),
        (lambda suite: score(scripted()[0], [suite, suite]), "one YAML file"),
        (lambda suite: gate("a", "b", suite=[suite, suite]), "one YAML file"),
        (lambda suite: gate("a", "b"), "compared on a suite"),
        (lambda suite: gate("run:0000", "run:0001"), "there is no run"),
        (lambda suite: gate("line:bot", "line:bot", suite=suite), "no promoted checkpoint"),
        (lambda suite: gate("bundle:nowhere", "bundle:nowhere"), "no bundle here"),
        (lambda suite: gate("a", "b", suite=suite, margin=0.1), "margin= is for lists"),
    ],
)
def test_what_cant_be_used_is_one_clear_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call, says: str
) -> None:
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=re.escape(says)):
        call(suite_yaml(tmp_path))
