"""Names that packages add: found, refused and explained."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from harness.core.errors import UserError
from harness.core.plugins import PluginTable
from tests.fake_package import write_package


@pytest.fixture
def table() -> PluginTable:
    # A group of its own: what packages add is read once for a group.
    return PluginTable(f"ratchet.{uuid4().hex}", "tool", {"join": "os.path:join"})


def install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: PluginTable, name: str, **points: str
) -> None:
    modules = {f"{name}.py": "tool = 1\n", f"{name}_broken.py": "import nothing_of_that_name\n"}
    folder = write_package(tmp_path / name, name, modules, {table.group: points})
    monkeypatch.syspath_prepend(str(folder))


def test_a_package_adds_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: PluginTable
) -> None:
    install(tmp_path, monkeypatch, table, "acme", saw="acme:tool")
    assert table.names() == ["join", "saw"]
    assert table.load("saw") == 1
    assert table.load("join")("a", "b") == "a/b"


def test_an_unknown_name_lists_those_that_are_there(table: PluginTable) -> None:
    with pytest.raises(UserError) as near:
        table.load("jion")
    assert near.value.hint == "did you mean join?"
    with pytest.raises(UserError) as far:
        table.load("hammer")
    assert (far.value.what, far.value.hint) == (
        "there is no tool named 'hammer'",
        "known are join",
    )


@pytest.mark.parametrize("target", ["acme_broken:tool", "acme:nothing", "acme_gone:tool"])
def test_a_package_that_can_not_be_loaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: PluginTable, target: str
) -> None:
    install(tmp_path, monkeypatch, table, "acme", saw=target)
    with pytest.raises(UserError, match="'saw' of the package acme can't be loaded"):
        table.load("saw")
    # The rest goes on.
    assert table.load("join")("a", "b") == "a/b"


def test_no_package_takes_a_name_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: PluginTable
) -> None:
    install(tmp_path, monkeypatch, table, "acme", join="acme:tool")
    with pytest.raises(UserError, match="'join' is claimed by Ratchet and by acme"):
        table.load("join")


def test_two_packages_may_not_claim_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: PluginTable
) -> None:
    install(tmp_path, monkeypatch, table, "acme", saw="acme:tool")
    install(tmp_path, monkeypatch, table, "zenith", saw="zenith:tool")
    with pytest.raises(UserError, match=r"claimed by (acme and by zenith|zenith and by acme)"):
        table.load("saw")
