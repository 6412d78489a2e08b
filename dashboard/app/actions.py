"""Buttons that change something, offered with --actions: promote, roll back, mark as anchor.

Each asks for a reason and for the name of the line to be typed, and then runs the very verb of the
command line in a process of its own: the same checks, the same confirmation on fresh answers, the
same record, and no model in this server's memory. To mark an anchor is to promote by override: a
line's anchor is what is promoted, and passing over the gate is always recorded.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence

import streamlit as st

from dashboard.app.page import cached, store
from dashboard.i18n.reader import tr
from dashboard.queries import history
from dashboard.web.escape import plain
from harness.core.escape import visible
from harness.core.workspace import Workspace

TIMEOUT_S = 3_600
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def roll_back(line: str) -> None:
    """Promote the version before again."""
    with st.popover(tr("Roll back"), key=f"rollback.{line}"):
        st.markdown(tr("Promote the version before again. The line changes at once."))
        reason = _confirmed(line, f"rollback.{line}")
        if reason is not None:
            _run(["rollback", line, "--reason", reason])


def promote(shown: history.Shown) -> None:
    """Promote the candidate of a verdict: decided once more, on fresh answers."""
    lines = [row["line"] for row in cached(history.lines)]
    run = cached(history.run, shown.candidate_run)
    if run is None or not lines:
        return
    with st.popover(tr("Promote")):
        line = st.selectbox(tr("Line"), lines, key="promote.line")
        st.markdown(
            tr(
                "The candidate is scored on fresh answers and decided once more, which takes as "
                "long as on the command line."
            )
        )
        digest = history.checkpoint_of(store(), shown.candidate_run)
        if digest is None:
            st.info(tr("This run's model is not in the registry, so it can't be promoted."))
            return
        reason = _confirmed(line, "promote")
        if reason is not None:
            _run(["promote", digest, "--line", line, "--reason", reason])


def mark_as_anchor(run_id: str, verdict_id: str | None = None) -> None:
    """Make a run's checkpoint what a line is compared with, whatever the gate says of it.

    The line changes at once and stands on that verdict, by default the run's last. For a run that
    has none the checkpoint is scored on fresh answers first, and that verdict is recorded.
    """
    with st.popover(tr("Mark as anchor"), key="anchor"):
        digest = history.checkpoint_of(store(), run_id)
        if digest is None:
            st.info(tr("This run's model is not in the registry, so it can't be an anchor."))
            return
        new = tr("a new line")
        lines = [row["line"] for row in cached(history.lines)]
        chosen = st.selectbox(tr("Line"), [*lines, new], key="anchor.line")
        line = chosen
        if chosen == new:
            line = st.text_input(tr("Its name"), key="anchor.name").strip()
        st.markdown(
            tr(
                "Everything on this line is compared with it from then on, without a pass. The "
                "reason is kept in the line's history, as an override."
            )
        )
        reason = _confirmed(line, "anchor") if line else None
        if reason is not None:
            verdict = verdict_id or history.last_verdict_of(store(), run_id)
            stand_on = ["--verdict", verdict] if verdict else []
            words = ["promote", digest, "--line", line, *stand_on]
            _run([*words, "--override", reason, "--reason", reason])


def note(run_id: str, tags: Sequence[str], text: str) -> None:
    """Tags and a note beside a run: nothing is decided by them, so nothing is to be confirmed."""
    with st.form(f"note.{run_id}", border=False):
        words = st.text_input(tr("Note"), value=text, max_chars=2_000)
        kept = st.multiselect(
            tr("Tags"), options=list(tags), default=list(tags), accept_new_options=True
        )
        if not st.form_submit_button(tr("Save")):
            return
    added = [option for tag in kept if tag not in tags for option in ("--tag", tag)]
    removed = [option for tag in tags if tag not in kept for option in ("--untag", tag)]
    # After `--`, a note may begin with a dash.
    if _run(["note", *added, *removed, "--", run_id, words]):
        st.rerun()


def _confirmed(line: str, key: str) -> str | None:
    """The reason, once it is given, the line's name is typed and the button pressed."""
    reason = st.text_input(tr("Reason, for the record"), key=f"{key}.reason").strip()
    typed = st.text_input(tr("Type {line} to confirm", line=plain(line)), key=f"{key}.typed")
    ready = bool(reason) and typed == line
    pressed = st.button(tr("Do it"), key=f"{key}.go", type="primary", disabled=not ready)
    return reason if pressed and ready else None


def _run(words: Sequence[str]) -> bool:
    """Run a verb of `ratchet` and show what it said. Returns whether it exited with 0."""
    home = str(Workspace.at().home)
    command = [sys.executable, "-m", "harness", "--home", home, *words]
    with st.spinner(tr("working …")):
        done = subprocess.run(
            command, env=_actor(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    said = _ANSI.sub("", f"{done.stdout}\n{done.stderr}").strip()
    (st.success if done.returncode == 0 else st.error)(
        tr("done") if done.returncode == 0 else tr("refused (exit code {n})", n=done.returncode)
    )
    st.code(visible(said), language=None, wrap_lines=True)
    st.cache_data.clear()
    return done.returncode == 0


def _actor() -> dict[str, str]:
    """The verb's surroundings, where whoever logged in is who acts, and not this server's user."""
    asked = st.user if st.user.get("is_logged_in") else {}
    name = asked.get("email") or asked.get("name") or asked.get("sub")
    # What `getpass.getuser` asks first.
    return {**os.environ, "LOGNAME": str(name)} if name else dict(os.environ)
