"""docs/team.md, on three machines and a folder: a box scores, CI decides, a dashboard sees it."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from dashboard.queries.history import verdicts
from harness.cli.app import main
from harness.store.store import Store

PAGE = Path(__file__).parents[2] / "docs" / "team.md"


def said(heading, shared):
    """The commands under a heading of the page, with this test's folder for its own."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    [block] = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    return [shlex.split(line)[1:] for line in block.replace("/mnt/team", shared).splitlines()]


def ratchet(home, words):
    return main(["--home", str(home), *words])


def imported(home, folder, name, value):
    rows = [f"t,a,higher,s{n},{value}" for n in range(200)]
    file = folder / f"{name}.csv"
    file.write_text("\n".join(["task,metric,direction,sample_id,value", *rows]) + "\n", "utf-8")
    assert ratchet(home, ["import", "csv", str(file), "--run", name]) == 0


def test_a_box_scores_ci_decides_and_the_dashboard_sees(tmp_path, capsys):
    box, ci, lead = (tmp_path / name for name in ("box", "ci", "lead"))
    shared = str(tmp_path / "shared")
    for name, value in (("anchor", 1.0), ("candidate", 0.5)):
        imported(box, tmp_path, name, value)
    [watch] = said("On the dashboard's machine", shared)
    watching = subprocess.Popen(
        [sys.executable, "-m", "harness", *watch, "--every", "1"],
        env={**os.environ, "RATCHET_HOME": str(lead)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert "taking what is pushed" in watching.stdout.readline()
        capsys.readouterr()
        assert [ratchet(box, words) for words in said("On the box", shared)] == [0]
        assert "2 runs" in capsys.readouterr().out
        decided = [ratchet(ci, words) for words in said("On the CI runner", shared)]
        assert decided == [0, 1, 0], "pulled, judged as worse, pushed"
        assert "1 verdict" in capsys.readouterr().out
        with Store(lead) as store:
            ends = time.monotonic() + 120
            while not (seen := verdicts(store)):
                assert time.monotonic() < ends
                time.sleep(0.2)
        assert [(row["outcome"], row["model"]) for row in seen] == [("fail", "candidate")]
        assert ratchet(ci, said("On the CI runner", shared)[-1]) == 0
        assert "nothing new" in capsys.readouterr().out
    finally:
        watching.kill()
        watching.communicate()
