"""Runs untrusted programs, and judges them in a process that they can't reach.

with Sandbox(workers=2) as sandbox:
    outcome = sandbox.run_tests(program, tests, "add", limits=Limits(cpu_s=3))
"""

from harness.sandbox.outcome import LABELS, Job, Label, Limits, Outcome, Tier, VerdictMode
from harness.sandbox.pool import Sandbox

__all__ = ["LABELS", "Job", "Label", "Limits", "Outcome", "Sandbox", "Tier", "VerdictMode"]
