"""What goes into a sandbox and what comes out: jobs, limits, outcomes, labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from harness.core.errors import UserError

Label = Literal[
    "pass",
    "fail:tests",
    "fail:load",
    "fail:exited",
    "fail:signal",
    "fail:memory",
    "fail:output",
    "fail:protocol",
    "timeout:cpu",
    "timeout:wall-idle",
    "timeout:wall-busy",
    "infra",
]
"""What became of a program.

`pass`               every test held
`fail:tests`         a test failed, or a call raised what the test did not expect
`fail:load`          the program did not compile, raised while loading, or lacks its entry point
`fail:exited`        it left (sys.exit, os._exit, a nonzero status) where an answer was due
`fail:signal`        it died of a signal that was not ours (a null dereference, an abort)
`fail:memory`        it asked for more memory than it may have
`fail:output`        it wrote or returned more than it may, or what can't be sent as plain data
`fail:protocol`      it tampered with the channel to its judge
`timeout:cpu`        it (or the comparison of its answers) used up its CPU time: this one decides
`timeout:wall-idle`  it waited without computing for `Limits.wall_s`
`timeout:wall-busy`  the machine was too slow to tell, twice, the second time alone. Never a failure
                     of the program
`infra`              the sandbox itself was lost. Never a failure of the program
"""

MACHINES: frozenset[Label] = frozenset({"infra", "timeout:wall-busy"})
"""The labels that say something of the machine, and nothing of the program."""

LABELS: tuple[Label, ...] = get_args(Label)

VerdictMode = Literal["split", "cooperative"]
"""`split`: the tests ran in another process, where the program can forge nothing.
`cooperative`: tests and program shared one process, which a hostile program can deceive."""

ModeChoice = Literal["auto", "split", "cooperative"]
"""`auto` splits, and runs again in one process where the tests can't be split."""

Tier = Literal["A", "B", "C"]
"""`A`: namespaces, seccomp and Landlock. `B`: seccomp and Landlock, nowhere to write.
`C`: resource limits only, which do not stop a program that means harm."""

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use.

    cpu_s         CPU seconds of the program with all its threads; the judge has as many again,
                  and at least 5
    wall_s        seconds it may wait without computing; what it waits for a core doesn't count.
                  Time on the clock alone never decides: a program that computes, or would if the
                  machine let it, is stopped by the clock only after 10 times as long, and then
                  tried once more, alone
    memory_bytes  address space on top of the bare interpreter's
    output_bytes  stdout and stderr together, and each file that it writes

    Raises UserError for a limit that is not above 0.
    """

    cpu_s: float = 3.0
    wall_s: float = 10.0
    memory_bytes: int = 512 * MIB
    output_bytes: int = MIB

    def __post_init__(self) -> None:
        for name in ("cpu_s", "wall_s", "memory_bytes", "output_bytes"):
            if not getattr(self, name) > 0:
                raise UserError(f"a limit must be above 0, not {getattr(self, name)}", field=name)

    @classmethod
    def from_reference(
        cls, reference: Outcome, *, factor: float = 10.0, floor_s: float = 1.0
    ) -> Limits:
        """Limits scaled from what a correct program took: `factor` times its CPU time.

        Never below `floor_s`; `wall_s` is at least three times `cpu_s`, memory four times the
        reference's peak and at least 512 MiB.
        """
        cpu = max(floor_s, factor * reference.cpu_s)
        memory = max(512 * MIB, 4 * reference.peak_memory_bytes)
        return cls(cpu_s=cpu, wall_s=max(10.0, 3 * cpu), memory_bytes=memory)


@dataclass(frozen=True, slots=True)
class Job:
    """One program to be judged. Make it with `Job.of_tests` or `Job.of_stdio`.

    program      untrusted Python source
    others       programs to load in its place where it raises an error while loading, or lacks the
                 entry point: the first that loads is judged, and no other
    tests        Python source that is trusted: it calls `candidate` or the entry point by name,
                 and raises where an answer is wrong. A function `check` that takes the candidate
                 is called, as HumanEval's tests expect
    entry_point  the name of the function (or class) under test
    setup        trusted source that runs before both: imports and helpers. Names that it defines
                 are the judge's own, not the program's
    stdin        for the stdin/stdout form: what the program reads
    expected     for the stdin/stdout form: what it must print; space at line ends and empty
                 lines at the end do not count
    """

    program: str
    tests: str = ""
    entry_point: str = ""
    setup: str = ""
    limits: Limits = Limits()
    mode: ModeChoice = "auto"
    stdin: str | None = None
    expected: str | None = None
    others: tuple[str, ...] = ()

    @classmethod
    def of_tests(
        cls,
        program: str,
        tests: str,
        entry_point: str,
        *,
        setup: str = "",
        limits: Limits | None = None,
        mode: ModeChoice = "auto",
        others: tuple[str, ...] = (),
    ) -> Job:
        """A function that tests call."""
        limits = limits or Limits()
        return cls(program, tests, entry_point, setup, limits, mode, others=others)

    @classmethod
    def of_stdio(
        cls, program: str, stdin: str, expected: str, *, limits: Limits | None = None
    ) -> Job:
        """A whole program that reads stdin and prints."""
        return cls(program, limits=limits or Limits(), stdin=stdin, expected=expected)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one job.

    label              see `Label`
    detail             one line for a reader: the exception, the signal, the limit. Where tests fail
                       under the split verdict their line comes first, which no program can forge;
                       the rest may be the program's wording
    cpu_s, wall_s      seconds, of the program (its judge left out)
    peak_memory_bytes  the largest resident set, the interpreter's own some 20 MB included
    output             the end of what it wrote to stdout and stderr, at most 4096 characters
    verdict            `split` or `cooperative`
    tier               what held it: A, B or C
    attempts           1, or more where `infra` or `timeout:wall-busy` was tried again alone
    chosen             which program was judged: 0, or the place in `Job.others` counted from 1, as
                       the program's own process says
    """

    label: Label
    detail: str = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_memory_bytes: int = 0
    output: str = ""
    verdict: VerdictMode = "split"
    tier: Tier = "A"
    attempts: int = 1
    chosen: int = 0

    @property
    def passed(self) -> bool:
        return self.label == "pass"

    @property
    def counts(self) -> bool:
        """Whether this is a result of the program; what the machine did (`MACHINES`) is none."""
        return self.label not in MACHINES
