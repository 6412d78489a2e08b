"""The verbs of the registry and of bundles, as a user types them."""

import pytest

from harness.core.workspace import HOME_VARIABLE
from harness.store.store import Store


@pytest.fixture
def models(tmp_path):
    folders = []
    for word in "abcd":
        folder = tmp_path / f"model-{word}"
        folder.mkdir()
        (folder / "model.safetensors").write_text(word)
        folders.append(str(folder))
    return folders


def test_promote_history_rollback_verify(home, models, ratchet):
    code, said = ratchet("promote", models[0], "--line", "bot")
    assert (code, "version 1" in said, "nothing to compare it with" in said) == (0, True, True)
    code, said = ratchet("promote", models[1], "--line", "bot")
    assert (code, "needs a verdict" in said) == (3, True)
    code, said = ratchet("promote", models[1], "--line", "bot", "--override", "a wish")
    assert (code, "by override: a wish" in said) == (0, True)
    code, said = ratchet("rollback", "bot", "--reason", "complaints")
    assert (code, "version 3" in said, "promoted again" in said) == (0, True, True)
    code, said = ratchet("history", "bot")
    assert code == 0
    for word in ("promoted", "rolled back", "override: a wish", "complaints"):
        assert word in said
    assert (home.lines / "bot" / "blessed" / "model.safetensors").read_text() == "a"
    assert ratchet("verify")[0] == 0
    (home.lines / "bot" / "blessed" / "model.safetensors").write_text("x")
    code, said = ratchet("verify", "bot")
    assert (code, "bytes have changed" in said) == (1, True)


def test_a_fail_is_not_promoted_unless_it_is_overridden(home, models, ratchet):
    ratchet("promote", models[0], "--line", "bot")
    with Store(home) as store:
        from harness.registry.registry import Registry

        digest = Registry(home, store).add(home.home.parent / "model-b", run_id="r")
        store.append(
            "verdicts",
            [{"verdict_id": "v", "outcome": "fail", "candidate_run": "r", "headline": "it fell"}],
        )
    code, said = ratchet("promote", digest[:10], "--line", "bot")
    assert (code, "it fell" in said) == (3, True)


def test_prune_shows_before_it_frees(home, models, ratchet):
    for number, model in enumerate(models):
        words = [] if number == 0 else ["--override", "x"]
        ratchet("promote", model, "--line", "bot", *words)
    code, said = ratchet("prune", "--keep", "2")
    assert (code, "2 checkpoints" in said, "would be freed" in said) == (0, True, True)
    assert len(list(home.checkpoints.iterdir())) == 4
    code, said = ratchet("prune", "--keep", "2", "--yes")
    assert (code, "2 checkpoints" in said) == (0, True)
    assert len(list(home.checkpoints.iterdir())) == 2


def test_export_and_import(home, tmp_path, ratchet, monkeypatch):
    with Store(home) as store:
        store.append("runs", [{"run_id": "abcdef123456", "model": "m", "model_digest": "d",
                               "suite": "s", "suite_digest": "d", "seed": 0, "protocol": {},
                               "subject": {}, "provenance": {}}])  # fmt: skip
    assert ratchet("export", "abcdef", str(tmp_path / "bundle"))[0] == 0
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "elsewhere"))
    for _ in range(2):
        code, said = ratchet("import", str(tmp_path / "bundle"))
        assert (code, "run:abcdef123456 is here" in said) == (0, True)
    (tmp_path / "bundle" / "scores.parquet").write_bytes(b"torn")
    code, said = ratchet("import", str(tmp_path / "bundle"))
    assert (code, "scores.parquet" in said) == (3, True)


def test_a_promotion_writes_the_bundle_for_review(home, models, tmp_path, ratchet):
    from harness.registry.registry import Registry

    with Store(home) as store:
        store.append("runs", [{"run_id": "r", "protocol": {}}])
        Registry(home, store).add(home.home.parent / "model-a", run_id="r")
    (tmp_path / "baselines").mkdir()
    code, said = ratchet("promote", models[0], "--line", "bot")
    assert (code, "bundle for review" in said) == (0, True)
    assert (tmp_path / "baselines" / "bot" / "run.json").is_file()
    assert ratchet("verify")[0] == 0
    assert ratchet("verify", "--baselines", "elsewhere")[0] == 3
