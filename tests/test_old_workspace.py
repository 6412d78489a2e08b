"""A workspace that the code before the rooms were moved left is read, shown and gone on with.

tests/data/old_workspace/make.py tells how it was made and with which commit.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.core.workspace import HOME_VARIABLE, Workspace
from harness.registry.registry import Registry
from harness.store.store import Store

ARCHIVE = Path(__file__).parent / "data" / "old_workspace" / "workspace.tar.xz"
Typed = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="tar")
    return folder


@pytest.fixture
def folder(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, copied afresh: the current one, with the old workspace in it."""
    copy = shutil.copytree(unpacked, tmp_path / "a-reader", symlinks=True)
    monkeypatch.chdir(copy)
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return copy


@pytest.fixture
def ratchet(folder: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    def run(*words: str) -> tuple[int, str]:
        code = main([*words])
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split())

    return run


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store(Workspace.at()) as opened:
        yield opened


def two_runs(store: Store) -> tuple[str, str]:
    """The runs of `first` and `second` on one suite."""
    rows = store.query(
        "SELECT arg_min(run_id, seq) AS run_id FROM runs WHERE suite = 'capitals' "
        "GROUP BY model ORDER BY model"
    )
    return rows[0]["run_id"], rows[1]["run_id"]


def test_the_archive_is_small_and_names_no_other_machine(unpacked: Path) -> None:
    assert ARCHIVE.stat().st_size < 300_000
    paths = (b"/home/", b"/root/", b"/work/", b"/Users/")
    for path in unpacked.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            assert not any(p in path.read_bytes() for p in paths), path


def test_the_verbs_that_look_read_it(ratchet: Typed, store: Store) -> None:
    first, second = two_runs(store)
    code, said = ratchet("runs")
    assert code == 0
    assert said.count("run:") == 9
    assert ratchet("verify") == (0, "all is well")
    code, said = ratchet("history", "support-bot")
    assert (code, said.count("promoted"), said.count("rolled back")) == (0, 2, 1)
    code, said = ratchet("prune")
    assert code == 0
    assert "support-bot: a canary runs with it" in said
    code, said = ratchet("report", first)
    assert code == 0
    assert "read/perplexity" in said
    code, said = ratchet("export", second, "another-bundle")
    assert code == 0, said


def test_two_stored_runs_are_gated_as_they_were(ratchet: Typed, store: Store) -> None:
    first, second = two_runs(store)
    before = store.query("SELECT outcome, headline FROM verdicts ORDER BY seq LIMIT 1")[0]
    # The runs name their suite by a path of the machine that made them: here it lies elsewhere.
    words = ("--suite", "suite.yaml", "--json", "v.json")
    code, said = ratchet("gate", f"run:{second}", "--against", f"run:{first}", *words)
    verdict = json.loads(Path("v.json").read_text(encoding="utf-8"))
    assert (code, verdict["outcome"]) == (2, before["outcome"])
    assert before["headline"] in said
    assert "calibration" in verdict["notes"]


def test_cached_answers_are_found_again(ratchet: Typed) -> None:
    code, said = ratchet("score", "first", "--suite", "suite.yaml")
    assert code == 0, said
    assert "Nothing was generated: all 30 answers were known already" in said
    code, said = ratchet("gate", "first", "--against", "bundle:bundle", "--suite", "suite.yaml")
    # Exact match computes otherwise since: the old scores are not set beside the new ones.
    assert code == 3, said
    assert "anchor computed by exact_match|v:1|norm:squad" in said
    assert "spent: 0 answers generated" in said


def test_an_old_bundle_is_taken_in_elsewhere(ratchet: Typed, store: Store) -> None:
    first, _ = two_runs(store)
    code, said = ratchet("--home", "elsewhere", "import", "bundle")
    assert code == 0, said
    code, said = ratchet("--home", "elsewhere", "report", first)
    assert code == 0
    assert "talk/self_bleu" in said


def test_the_crest_is_shown_as_the_best_checkpoint(
    ratchet: Typed, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamlit.testing.v1 import AppTest

    assert store.query("SELECT count(*) AS n FROM verdicts WHERE against = 'crest'")[0]["n"] == 5
    said = ratchet("history", "finished")[1]
    assert "the best checkpoint (step 12) of finished" in said
    monkeypatch.setenv(HOME_VARIABLE, str(folder / ".ratchet"))

    def script(view: str) -> None:
        from dashboard.app.main import run

        run(view)

    found = store.query("SELECT verdict_id FROM verdicts WHERE against = 'crest' LIMIT 1")
    params = {
        "trainings": {"training": "finished-49ae612472"},
        "verdict": {"verdict": found[0]["verdict_id"]},
    }
    for view, named in params.items():
        page = AppTest.from_function(script, default_timeout=60, args=(view,))
        for name, value in named.items():
            page.query_params[name] = value
        page.run()
        assert not page.exception, page.exception[0].value
        shown = "\n".join(str(part.value) for part in (*page.markdown, *page.caption, *page.title))
        shown += "\n".join(str(option) for box in page.selectbox for option in box.options)
        shown += "\n".join(frame.value.to_string() for frame in page.dataframe if view != "verdict")
        assert "best checkpoint" in shown, view
        assert "crest" not in shown, view


def test_the_questions_of_every_page_are_answered(store: Store) -> None:
    from dashboard.queries import attention, history, ratings, served_lines

    assert {row["line"] for row in history.lines(store)} == {"finished", "support-bot"}
    assert len(history.verdicts(store)) == 14
    assert all(history.verdict(store, row["verdict_id"]) for row in history.verdicts(store))
    trainings = {row["training_id"].partition("-")[0] for row in history.trainings(store)}
    assert trainings == {"finished", "interrupted"}
    events = {row["event"] for row in history.training_events(store, "finished-49ae612472")}
    assert {"rolled_back", "best checkpoint", "finished", "promoted"} <= events
    assert len(history.calibrations(store)) == 1
    assert sum(row["votes"] for row in ratings.rated(store)) == 8
    assert attention.attention(store)
    split = served_lines.split(store, "support-bot")
    assert split is not None
    assert split.share == 0.3
    assert served_lines.verdicts(store, "support-bot")[0]["outcome"] == "inconclusive"


@pytest.mark.usefixtures("first_versions")
def test_the_interrupted_training_goes_on(ratchet: Typed, store: Store) -> None:
    judged = store.query("SELECT run_id FROM runs WHERE model LIKE '%step 3'")
    store.close()
    code, said = ratchet("train", "interrupted/recipe.yaml")
    assert code == 0, said
    assert "Going on where this training was stopped." in said
    assert "The training finished" in said
    state = json.loads(
        Path(".ratchet/trainings/interrupted-83df5b234e/state.json").read_text(encoding="utf-8")
    )
    assert state["status"] == "finished"
    assert "crest" not in state
    with Store(Workspace.at()) as again:
        rows = again.query("SELECT run_id FROM runs WHERE model LIKE '%step 3'")
        scored = again.query(
            "SELECT DISTINCT step FROM training_events "
            "WHERE training_id LIKE 'interrupted-%' AND event = 'checkpoint' ORDER BY step"
        )
    assert rows == judged, "a judged checkpoint was scored anew"
    assert [row["step"] for row in scored] == [0, 3, 6, 9, 12]
    code, said = ratchet("train", "finished/recipe.yaml")
    assert code == 0, said
    assert "Loading" not in said


def test_the_line_its_watch_and_its_canary_go_on(ratchet: Typed, store: Store) -> None:
    code, said = ratchet("watch", "status")
    assert code == 2, "not everything is shown yet"
    assert "support-bot · 0a906e9334af" in said
    assert ratchet("watch", "check", "support-bot")[0] == 2
    code, said = ratchet("watch", "canary", "support-bot")
    assert code == 2
    assert "[30.00%]" in said
    assert ratchet("watch", "ramp", "support-bot", "--abort", "--act")[0] == 0
    served = Path(".ratchet/lines/support-bot/blessed").resolve().name
    code, said = ratchet("rollback", "support-bot", "--to", "656b7c45b70c")
    assert code == 0, said
    assert Path(".ratchet/lines/support-bot/blessed").resolve().name != served
    assert Registry(Workspace.at(), store).history("support-bot")[-1].number == 4
    assert ratchet("verify") == (0, "all is well")


def test_the_rating_session_goes_on(ratchet: Typed, store: Store) -> None:
    from dashboard.rating.pair_queue import PairQueue
    from harness.ratings import session as sessions

    [name] = sessions.sessions(store)
    code, said = ratchet("rate", "status", name)
    assert code == 2
    assert "8 of 20 votes" in said
    queue = PairQueue(store, sessions.load(store, name), b"key")
    queue.vote("ann", queue.state("ann")["ticket"], "left", 2500.0)
    assert "9 of 20 votes" in ratchet("rate", "status", name)[1]
