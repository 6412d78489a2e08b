"""A model is promoted, breaks in production, is noticed and rolled back: with real processes.

A server follows the line's pointer, clients ask it and report to `ratchet watch serve`, and
`ratchet watch check --act` is the only one that decides.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from dashboard.receiver.cli import watch
from harness.core.workspace import HOME_VARIABLE, Workspace
from harness.registry import lines
from harness.registry.registry import Registry
from harness.store.store import Store
from tests.harness.watch.watch_builders import hook

LINE = "support-bot"
ROOT = Path(__file__).parents[2]
POLICY = """
conversations: 150
settle: 0s
signals:
  completion: {required: true}
  refusals: {required: true}
  retries: false
  toxicity: false
  sensitive_words: false
"""


@contextmanager
def program(*arguments: str, home: Path) -> Iterator[str]:
    """A program of its own that says its address first; ended when done with."""
    started = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, HOME_VARIABLE: str(home), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout is not None
        said = started.stdout.readline()
        assert "http://" in said, said
        yield "http://" + said.split("http://")[1].split("/")[0].split()[0]
    finally:
        started.terminate()
        started.wait(30)


class Users:
    """Clients that ask the served model, and the application that reports how it went."""

    def __init__(self, server: str, receiver: str, token: str) -> None:
        self._server = http.client.HTTPConnection(urlsplit(server).netloc)
        self._receiver = http.client.HTTPConnection(urlsplit(receiver).netloc)
        self._token = token
        self._asked = 0

    def ask(self, count: int) -> list[dict[str, Any]]:
        """Ask `count` questions, one conversation each; the answers, reported and acknowledged."""
        answers = []
        for _ in range(count):
            self._asked += 1
            prompt = f"problem {self._asked}"
            begun = time.monotonic()
            said = self._post(self._server, "/chat", {"prompt": prompt})
            gave_up = "can't help" in said["response"]
            answers.append(
                {
                    "observation_id": f"o{self._asked}",
                    "conversation_id": f"c{self._asked}",
                    "line": LINE,
                    "prompt": prompt,
                    "latency_s": time.monotonic() - begun,
                    "outcome": "abandoned" if gave_up else "completed",
                    "thumb": -1 if gave_up else 1,
                    **said,
                }
            )
            if len(answers) % 20 == 0 or len(answers) == count:
                lot = answers[-(len(answers) % 20 or 20) :]
                taken = self._post(self._receiver, "/v1/observations", lot)
                assert taken["accepted"] == len(lot), taken
        return answers

    def _post(self, connection: http.client.HTTPConnection, path: str, content: Any) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        connection.request("POST", path, json.dumps(content), headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return json.loads(body)


def promote(home: Path, folder: Path, declines: float) -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_text(json.dumps({"declines": declines}))
    workspace = Workspace.at(home)
    with Store(workspace) as store:
        registry = Registry(workspace, store)
        digest = registry.add(folder)
        registry.promote(LINE, digest, override="the gate is not the subject of this test")
    return digest


def test_a_model_that_breaks_in_production_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, flaw = tmp_path / ".ratchet", tmp_path / "flaw"
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    policy = tmp_path / "watch.yaml"
    policy.write_text(POLICY)
    first = promote(home, tmp_path / "v1", declines=0.02)
    line = home / "lines" / LINE

    def check(*more: str) -> Any:
        return CliRunner().invoke(watch, ["check", LINE, "--policy", str(policy), *more])

    with (
        program(str(Path(__file__).with_name("pointer_server.py")), str(line), str(flaw),
                home=home) as server,
        program("-m", "harness", "watch", "serve", "--port", "0",
                home=home) as receiver,
        hook() as (url, heard),
    ):  # fmt: skip
        users = Users(server, receiver, (home / "watch.tokens").read_text().strip())

        # The first version serves, and becomes what the second is held to.
        assert {a["model_digest"] for a in users.ask(300)} == {first}
        second = promote(home, tmp_path / "v2", declines=0.01)
        assert {a["model_digest"] for a in users.ask(250)} == {second}
        well = check("--act", "--webhook", url)
        assert well.exit_code in (0, 2), well.output
        assert heard == []

        # It breaks: nothing changes on disk, and only users notice.
        flaw.write_text(second)
        users.ask(150)
        said = check("--webhook", url)
        assert said.exit_code == 1, said.output
        assert f"would go back to {first[:12]}" in said.output
        assert users.ask(1)[0]["model_digest"] == second

        acted = check("--act", "--webhook", url)
        assert acted.exit_code == 1, acted.output
        assert f"serves {first[:12]} again" in acted.output

        # The server follows the pointer, and users are well again.
        after = users.ask(150)
        assert {a["model_digest"] for a in after} == {first}
        assert sum(a["outcome"] == "completed" for a in after) > 0.9 * len(after)
        again = check("--act", "--webhook", url)
        assert again.exit_code in (0, 2), again.output

    with Store(Workspace.at(home)) as store:
        verdicts = store.query(
            "SELECT outcome, model_digest, reference_digest, signals FROM watch_verdicts "
            "WHERE kind = 'watch' ORDER BY seq"
        )
        actions = store.query("SELECT action, acted FROM watch_actions ORDER BY seq")
        told = store.query("SELECT event, digest, reason FROM checkpoints WHERE line IS NOT NULL "
                           "ORDER BY seq")  # fmt: skip
        seen = store.query("SELECT count(*) AS n FROM observations")[0]["n"]
    failed = [v for v in verdicts if v["outcome"] == "fail"]
    assert {v["model_digest"] for v in failed} == {second}
    assert failed[0]["signals"]["completion"]["outcome"] == "fail"
    assert verdicts[-1]["model_digest"] == first
    assert [(row["action"], row["acted"]) for row in actions] == [
        ("rolled_back", False),
        ("told", True),
        ("rolled_back", True),
        ("told", True),
    ]
    assert [row["event"] for row in told] == ["promoted", "promoted", "rolled_back"]
    assert told[-1]["digest"] == first
    assert "completion" in told[-1]["reason"]
    assert [json.loads(body)["acted"] for body in heard] == [False, True]
    now = lines.current(line)
    assert now is not None
    assert (now.digest, now.number, now.event) == (first, 3, "rolled_back")
    assert seen == 300 + 250 + 150 + 1 + 150
