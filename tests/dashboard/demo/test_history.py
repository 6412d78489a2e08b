"""What the demo wrote is a workspace like any other: the command reads it."""

from __future__ import annotations

import re
from pathlib import Path

from dashboard.i18n.zh import SENTENCES
from harness.cli.app import main
from harness.comparison.line_reading import states
from harness.report.zh_report import REPORT
from harness.store.store import Store


def test_the_report_of_a_failed_candidate_is_one_inert_file(demo: Store, tmp_path: Path) -> None:
    rows = demo.query("SELECT candidate_run AS r FROM verdicts WHERE outcome = 'fail' LIMIT 1")
    place = tmp_path / "report.html"
    assert main(["report", rows[0]["r"], "--html", "-o", str(place)]) == 0
    page = place.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http:" not in page.replace("http-equiv", "")
    assert "more than the 5% allowed" in page
    assert "intents/json_match" in page


def test_the_report_in_chinese(demo: Store, tmp_path: Path) -> None:
    rows = demo.query("SELECT candidate_run AS r FROM verdicts WHERE outcome = 'fail' LIMIT 1")
    place = tmp_path / "report.html"
    assert main(["report", rows[0]["r"], "--html", "--lang", "zh", "-o", str(place)]) == 0
    page = place.read_text(encoding="utf-8")
    assert '<html lang="zh-CN">' in page
    assert "未通过：" in page
    assert "变化最大的样本" in page
    heads = re.findall(r"<t?h[12]?>([^<]+)</t?h[12]?>", page)
    assert [head for head in heads[1:] if not re.search("[\u4e00-\u9fff]", head)] == []
    assert main(["report", rows[0]["r"], "--html", "--lang", "xx", "-o", str(place)]) == 3


def test_both_say_the_same_in_chinese() -> None:
    common = {word: REPORT[word] for word in REPORT if word in SENTENCES}
    assert len(common) > 20
    assert {word: SENTENCES[word] for word in common} == common


def test_samples_that_moved_are_not_all_of_one_kind(demo: Store, tmp_path: Path) -> None:
    rows = demo.query("SELECT candidate_run AS r FROM verdicts WHERE outcome = 'fail' LIMIT 1")
    place = tmp_path / "report.html"
    assert main(["report", rows[0]["r"], "--html", "-o", str(place)]) == 0
    shown = re.findall(r"<summary>(\S+) · (\S+)", place.read_text(encoding="utf-8"))
    assert len({metric for metric, _ in shown}) > 1
    assert len({sample for _, sample in shown}) == len(shown) == 10


def test_the_report_says_in_chinese_what_the_line_says(demo: Store, tmp_path: Path) -> None:
    run = next(s.promoted.run_id for s in states(demo) if s.promoted and s.promoted.run_id)
    pages = {}
    for language in ("en", "zh"):
        place = tmp_path / f"{language}.html"
        assert main(["report", run, "--html", "--lang", language, "-o", str(place)]) == 0
        pages[language] = place.read_text(encoding="utf-8")
    assert re.search(r"<p>[\w-]+: v\d+ \([0-9a-f]{12}\) is promoted since ", pages["en"])
    assert re.search(r"<p>[\w-]+：v\d+（[0-9a-f]{12}）自 [\d-]+ 起为已批准版本", pages["zh"])
