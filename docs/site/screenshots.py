"""Photograph the pages in a browser: the demo's history, and a rating session of two scripted runs.

`python docs/site/screenshots.py` writes them into docs/images/; it needs Debian's Chromium. Nothing
leaves this machine: the servers listen on loopback, and everything that they show is made here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from harness import Store, load_suite, score  # noqa: E402
from harness.backends.base import Candidate  # noqa: E402
from harness.backends.scripted import ScriptedBackend  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

IMAGES = ROOT / "docs" / "images"
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 780}
PORTS = (8571, 8572)

SUITE = """
name: support
tasks:
  replies:
    data: asked.jsonl
    prompt: {user: "{{ message }}"}
    generate: {max_new_tokens: 400, temperature: 0}
    metrics: [length]
"""
ASKED = {
    "en": "My invoice shows another number than my account. What should I do?",
    "zh": "我的发票编号和账户里的不一样，怎么办？",
}
ANSWERS = {
    "en": (
        "Please compare **both numbers** once more:\n\n"
        "1. the invoice's, top right\n2. the account's, under *Settings*\n\n"
        "If they differ, send us both, and we will put it right within a day.",
        "Invoices are numbered by order, accounts by customer, so the two numbers are never the "
        "same. Nothing is wrong. For a payment, use the invoice's number.",
    ),
    "zh": (
        "请再核对一下**两个编号**：\n\n1. 发票右上角的编号\n2. *账户设置*里的编号\n\n"
        "如果不一致，请把两个都发给我们，我们会在一天之内更正。",
        "发票按订单编号，账户按客户编号，所以两者本来就不同，并没有出错。付款时请使用发票上的编号。",
    ),
}


def main() -> None:
    """Write all of them."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            _dashboard(browser, Path(folder) / "demo")
            _rating(browser, Path(folder) / "rated")
        finally:
            browser.close()


def _dashboard(browser: Browser, home: Path) -> None:
    _ratchet(home, "demo-data")
    with _serving(home, "dashboard", "--port", str(PORTS[0])) as address:
        for view, name in (("", "dashboard-today"), ("trend", "dashboard-trend")):
            page = browser.new_page(viewport=WIDE, locale="en-US")
            page.goto(f"{address}/{view}")
            page.wait_for_selector("h1")
            page.wait_for_timeout(3000)
            page.wait_for_selector("[data-testid=stStatusWidget]", state="detached")
            page.screenshot(path=IMAGES / f"{name}.png")
            page.close()


def _rating(browser: Browser, home: Path) -> None:
    home.mkdir()
    rows = [{"id": code, "message": text} for code, text in ASKED.items()]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (home / "asked.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (home / "suite.yaml").write_text(SUITE, encoding="utf-8")
    suite = load_suite(home / "suite.yaml")
    with Store(home / ".ratchet") as store:
        runs = [score(_model(number), suite, store=store).run.id for number in (0, 1)]
    made = _ratchet(
        home / ".ratchet", "rate", "create", *runs, "--title", "Support bot, week 47",
        "--raters", "ann,bo", "--forms", "pairs,questions", "--url", f"http://127.0.0.1:{PORTS[1]}",
    )  # fmt: skip
    ann, bo = re.findall(r"http://\S+", made)[:2]
    pictures = (
        ("rating-pairs", ann, "pairs", "en-US", "light", WIDE),
        ("rating-phone-zh", bo, "pairs", "zh-CN", "light", PHONE),
        ("rating-questions-zh-dark", bo, "questions", "zh-CN", "dark", WIDE),
    )
    with _serving(home / ".ratchet", "rate", "serve", "--port", str(PORTS[1])):
        for name, link, form, locale, theme, size in pictures:
            context = browser.new_context(viewport=size, locale=locale, color_scheme=theme)
            page = context.new_page()
            page.goto(link)
            agree = page.locator("form button")
            if agree.count() and not page.locator("#work").count():
                agree.first.click()
            page.goto(page.url.split("?")[0].removesuffix("/pairs") + f"/{form}")
            page.wait_for_selector("#work:visible")
            page.wait_for_timeout(500)
            page.screenshot(path=IMAGES / f"{name}.png")
            context.close()


def _model(number: int) -> Candidate:
    backend = ScriptedBackend(
        {ASKED[code]: answers[number] for code, answers in ANSWERS.items()}, name=f"model {number}"
    )
    return Candidate(f"model-{number}", f"digest {number}", backend.subject, lambda: backend)


def _ratchet(home: Path, *words: str) -> str:
    command = [sys.executable, "-m", "harness", *words]
    done = subprocess.run(
        command, env=_at(home), cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


@contextmanager
def _serving(home: Path, *words: str) -> Iterator[str]:
    """A server of ours, from when it answers until the pictures are taken."""
    address = f"http://127.0.0.1:{words[-1]}"
    command = [sys.executable, "-m", "harness", *words]
    program = subprocess.Popen(command, env=_at(home), cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/static/icon.svg", timeout=2).read()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        program.terminate()
        program.wait(20)


def _at(home: Path) -> dict[str, str]:
    return {**os.environ, "RATCHET_HOME": str(home), "COLUMNS": "200"}


if __name__ == "__main__":
    main()
