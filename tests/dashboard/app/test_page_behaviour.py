"""The dashboard's process has a low priority on the machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dashboard import cli
from dashboard.app.settings import NICENESS
from harness.cli.app import main


class Started(Exception):  # noqa: N818 - where the process would have become the server
    """Raised in place of it."""


def test_the_server_is_nicer_than_who_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[Any] = []

    def become(*_: Any) -> None:
        order.append("server")
        raise Started

    monkeypatch.setattr(os, "nice", order.append)
    monkeypatch.setattr(cli.os, "execve", become)
    with pytest.raises(Started):
        main(["dashboard", "--home", str(tmp_path), "--debug"])
    assert order == [NICENESS, "server"]
