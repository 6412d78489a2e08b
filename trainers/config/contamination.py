"""Finds samples of the suite in the training data: exact and near duplicates, each by its name."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from harness.core.files import write_atomic
from harness.core.language import CJK
from harness.data.duplicates import Index, Kind, Passage, normalized
from harness.suite.passages import of_suite
from trainers.config.frames import own_parts, unframed
from trainers.config.schema import ContaminationModel

if TYPE_CHECKING:
    from trainers.config.recipe import Example, Recipe

_RUN_OF_CJK = re.compile(f"[{CJK}]+")
_RUN = re.compile(f"[{CJK}]+|[^\\s{CJK}]+")
_ENOUGH_ROWS = 5_000
"""Rows of a source that are asked for its words."""


@dataclass(frozen=True, slots=True)
class Match:
    """A held-out sample and the training row that is most like it. `similarity` is 0 to 1:
    Jaccard's, or, for `contained`, the share of the sample that the row contains.
    """

    task: str
    sample: str
    source: str
    row: str
    kind: Kind
    similarity: float

    def __str__(self) -> str:
        how = {"exact": "is", "near": "is nearly", "contained": "contains"}[self.kind]
        return f"{self.source} row {self.row} {how} {self.task} sample {self.sample}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was found: one match per contaminated sample, and each source's overlap of words."""

    matches: tuple[Match, ...]
    samples: Mapping[str, int]
    overlap: Mapping[tuple[str, str], float]

    def share(self, task: str) -> float:
        """Share of a task's samples that are in the training data, 0 to 1."""
        return sum(match.task == task for match in self.matches) / self.samples[task]

    @property
    def worst(self) -> float:
        return max((self.share(task) for task in self.samples), default=0.0)

    def written(self) -> list[Any]:
        """As JSON holds it; `read` makes the same of it."""
        matches = [[getattr(match, name) for name in Match.__slots__] for match in self.matches]
        overlap = [[*pair, share] for pair, share in self.overlap.items()]
        return [matches, dict(self.samples), overlap]

    @classmethod
    def read(cls, written: list[Any]) -> Report:
        """Raises ValueError or TypeError for what isn't `written`."""
        matches, samples, overlap = written
        shares = {(source, task): share for source, task, share in overlap}
        return cls(tuple(Match(*each) for each in matches), samples, shares)

    def require(self, model: ContaminationModel, file: Path | None = None) -> None:
        """Raises UserError where a task's share is above what the recipe `file` allows."""
        for task in self.samples:
            share = self.share(task)
            if share > model.refuse_above:
                found = [str(match) for match in self.matches if match.task == task]
                more = f", and {len(found) - 5} more" if len(found) > 5 else ""
                raise UserError(
                    f"{share:.1%} of the task {task} is in the training data, more than "
                    f"{model.refuse_above:.1%}: {'; '.join(found[:5])}{more}",
                    file=file,
                    field="contamination.refuse_above",
                    hint="take those rows out of the training data, or gate on other samples",
                )


def check_recipe(
    recipe: Recipe, model: ContaminationModel | None = None, cache: Path | None = None
) -> Report:
    """Every stage's data against every suite of the recipe.

    A row is what it says and not what it is called: rows that share an id, and rows that another
    source or another stage makes of the same file, are each looked at. What has been said word for
    word before is looked at once. What is found is kept in the folder `cache`, where there is one,
    by the digest of everything that was looked at.
    """
    training: dict[tuple[str, tuple[str, ...]], Passage] = {}
    for stage in recipe.stages:
        for number, source in enumerate(stage.data.mix):
            examples = [example for example in stage.examples if example.source == number]
            for row in _of_source(source.source, examples):
                training.setdefault((row.group, row.texts), row)
    suites = {stage.suite.digest: stage.suite for stage in recipe.stages}
    held = [passage for suite in suites.values() for passage in own_parts(of_suite(suite))]
    rows, model = list(training.values()), model or ContaminationModel()
    if cache is None:
        return check(rows, held, model)
    place = cache / "contamination" / f"{_digest(rows, held, model)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Report.read(json.loads(place.read_text(encoding="utf-8")))
    report = check(rows, held, model)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, json.dumps(report.written()))
    return report


def _digest(training: Sequence[Passage], held: Sequence[Passage], model: ContaminationModel) -> str:
    """Of all that a report depends on."""
    told = hashlib.sha256(f"1 {model.near}".encode())
    for passage in (*training, *held):
        parts = (passage.group, passage.name, *passage.texts, "\1", *passage.parts, "\1")
        told.update("\0".join((*parts, *passage.joined, "\2")).encode("utf-8", "surrogatepass"))
    return told.hexdigest()[:32]


def _of_source(source: str, examples: Sequence[Example]) -> Iterator[Passage]:
    """Every message and every answer of each row: a held-out sample may hide in a system turn as
    well. Beside them what each row asks or says without the words that all have alike, and each
    answer with what was asked: a text may have been cut in two.
    """
    said = [e.text or (e.prompt[-1]["content"] if e.prompt else "") for e in examples]
    for example, own in zip(examples, unframed(said), strict=True):
        asked = tuple(message["content"] for message in example.prompt)
        answers = tuple(filter(None, (example.completion, example.chosen, example.rejected)))
        joined = tuple(f"{asked[-1]} {answer}" for answer in answers if asked)
        texts = tuple(filter(None, (*asked, example.text, *answers)))
        yield Passage(source, example.name, texts, (own,), joined)


def check(
    training: Sequence[Passage], held: Sequence[Passage], model: ContaminationModel
) -> Report:
    """Hold each held-out text against each training text. Exact: equal to comparing all pairs.

    A held-out sample is told from another by its texts too: two suites of one name may well use an
    id twice, and neither sample may hide the other.
    """
    held = list(dict.fromkeys(held))
    index = Index(held, word_for_word=True)
    # Equal texts are equally like: the first row that has one is as good as any other.
    first = {text: row for row in reversed(training) for text in _looked_at(row)}
    texts = list(dict.fromkeys(text for row in training for text in _looked_at(row)))
    best: dict[Passage, Match] = {}
    for number, sample, kind, similarity in index.like_each(texts, model.near):
        row = first[texts[number]]
        if kind == "contained" and texts[number] in row.joined:
            continue
        if sample not in best or similarity > best[sample].similarity:
            best[sample] = Match(sample.group, sample.name, row.group, row.name, kind, similarity)
    matches = tuple(sorted(best.values(), key=lambda match: (match.task, match.sample)))
    return Report(matches, Counter(sample.group for sample in held), _overlaps(training, held))


def _looked_at(row: Passage) -> Iterator[str]:
    return itertools.chain(row.texts, row.parts, row.joined)


def _overlaps(training: Sequence[Passage], held: Sequence[Passage]) -> dict[tuple[str, str], float]:
    """Share of the words of each source (Chinese: pairs of characters), repetitions counted, that
    each task uses too. Towards a task of general text this is the overlap with the base's domain.
    Of a source of over 5,000 rows every so manieth is asked.
    """
    sources, tasks = _words(_some(training)), _words(held)
    return {
        (source, task): sum(n for word, n in mine.items() if word in theirs) / max(1, mine.total())
        for source, mine in sources.items()
        for task, theirs in tasks.items()
    }


def _some(training: Sequence[Passage]) -> Iterator[Passage]:
    """As many rows of each source, evenly apart, as say its words to a fraction of a percent."""
    groups: dict[str, list[Passage]] = defaultdict(list)
    for row in training:
        groups[row.group].append(row)
    for rows in groups.values():
        yield from rows[:: -(-len(rows) // _ENOUGH_ROWS)]


def _words(passages: Iterable[Passage]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for passage in passages:
        for text in passage.texts:
            found[passage.group].update(_words_of(text))
    return found


def _words_of(text: str) -> Iterable[str]:
    normal = normalized(text)
    if normal.isascii():
        yield from normal.split()
        return
    for run in _RUN.findall(normal):
        if len(run) > 1 and _RUN_OF_CJK.match(run):
            yield from map("".join, pairwise(run))
        else:
            yield run
