"""A resource alarms once it has been full for long, and once only while it swings."""

import sys
import types

import pytest

from harness.watch.monitor.machine import Limit, Machine, Reading, readings

LIMIT = Limit(at=0.9, clear=0.8, for_s=60)


def alarms(values, every_s=30, limit=LIMIT):
    """Whether the disk alarms after each reading; one every so many seconds."""
    machine, found = Machine({"disk": limit}), []
    for number, value in enumerate(values):
        [(_, state)] = machine.take(iter([Reading("disk", value)]), number * every_s)
        found.append(state.alarms)
    return found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.95, 0.95, 0.95, 0.95], [False, False, True, True]),
        ([0.9, 0.9, 0.9], [False, False, True]),
        # Too short; then well below, and the clock begins anew.
        ([0.95, 0.95, 0.7, 0.95, 0.95], [False] * 5),
        # A swing about the limit goes on, between the limits none begins.
        ([0.95, 0.85, 0.95, 0.85], [False, False, True, True]),
        ([0.85, 0.85, 0.85, 0.85], [False] * 4),
        # It ends below `clear` alone, and may come again.
        (
            [0.95, 0.95, 0.95, 0.85, 0.8, 0.79, 0.95, 0.95, 0.95],
            [False, False, True, True, True, False, False, False, True],
        ),
    ],
)
def test_hysteresis_and_duration(values, expected):
    assert alarms(values) == expected


def test_a_disk_that_swings_about_its_limit_alarms_once():
    found = alarms([0.91, 0.89] * 500)
    begins = sum(now and not before for before, now in zip([False, *found], found, strict=False))
    assert begins == 1


def test_cards_are_held_apart_and_what_has_no_limit_only_shown():
    machine = Machine({"gpu_memory": LIMIT})
    full, empty = Reading("gpu_memory", 0.99, "0"), Reading("gpu_memory", 0.1, "1")
    for now in (0, 100):
        taken = machine.take(iter([full, empty, Reading("gpu", 1.0, "0")]), now)
    states = {(r.resource, r.device): state for r, state in taken}
    assert states["gpu_memory", "0"].alarms
    assert not states["gpu_memory", "1"].alarms
    assert states["gpu", "0"] is None


class Card:
    used, total, gpu = 30, 40, 50


def nvml(**changes):
    """As nvidia-ml-py is, with two cards of which the second can't be asked."""

    class NVMLError(Exception):
        pass

    def handle(number):
        if number == 1:
            raise NVMLError
        return number

    said = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": handle,
        "nvmlDeviceGetMemoryInfo": lambda _: Card,
        "nvmlDeviceGetUtilizationRates": lambda _: Card,
    }
    return types.SimpleNamespace(**said | changes)


def test_the_machine_is_read_with_and_without_cards(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    found = {(r.resource, r.device): r.used for r in readings(tmp_path)}
    assert found["gpu_memory", "0"] == 0.75
    assert found["gpu", "0"] == 0.5
    assert ("gpu_memory", "1") not in found
    assert {name for name, device in found if not device} == {"cpu", "memory", "disk"}
    assert all(0 <= used <= 1 for used in found.values())
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert {r.resource for r in readings(tmp_path)} == {"cpu", "memory", "disk"}
