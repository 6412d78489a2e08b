"""IFEval: whether an answer follows instructions that a program can check (Zhou et al. 2023)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from harness.core.errors import UserError
from harness.core.told_language import tell_language
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each
from harness.metrics.support.silence import silent_as

Given = Mapping[str, Any]
"""The arguments of an instruction, as the dataset's `kwargs` have them."""

_ABBREVIATIONS = frozenset(
    ("mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "e.g", "i.e", "inc", "ltd", "jr", "sr")
)
_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_STOPS = frozenset(".,?!'\"")


def follows(answer: str, instruction: str, given: Given, prompt: str = "") -> bool:
    """Whether an answer follows one instruction, such as `punctuation:no_comma`.

    As the published checker and lm-eval's copy of it decide, but for two parts of theirs that need
    files from elsewhere: languages are told by `core.told_language` in place of langdetect, and
    sentences are cut by NLTK's Punkt without its trained abbreviations. An answer that is empty
    follows nothing. Raises KeyError for an instruction or an argument that isn't known.
    """
    return bool(answer.strip()) and _CHECKS[instruction](answer, {"prompt": prompt, **given})


def variants(answer: str) -> list[str]:
    """The forms of an answer of which one is enough where instructions are read loosely: without
    its first line, its last, or both, and each without asterisks.
    """
    lines = answer.split("\n")
    cut = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return list(dict.fromkeys([*cut, *(text.replace("*", "") for text in cut)]))


def ifeval(
    answer: str,
    instructions: Sequence[str],
    arguments: Sequence[Given],
    *,
    prompt: str = "",
    loose: bool = False,
) -> list[bool]:
    """For each instruction whether the answer follows it. Raises KeyError as `follows` does."""
    texts = variants(answer) if loose else [answer]
    return [
        any(follows(text, one, given, prompt) for text in texts)
        for one, given in zip(instructions, arguments, strict=True)
    ]


def _compared(count: int, given: Given, relation: str, bound: str) -> bool:
    limit = int(given[bound])
    return count < limit if given[relation] == "less than" else count >= limit


def _keyword_frequency(text: str, given: Given) -> bool:
    count = len(re.findall(str(given["keyword"]).strip(), text, re.IGNORECASE))
    return _compared(count, given, "relation", "frequency")


def _forbidden(text: str, given: Given) -> bool:
    words = (rf"\b{word}\b" for word in given["forbidden_words"])
    return not any(re.search(word, text, re.IGNORECASE) for word in words)


def _letters(text: str, given: Given) -> bool:
    count = text.lower().count(str(given["letter"]).strip().lower())
    return _compared(count, given, "let_relation", "let_frequency")


def _sentences(text: str) -> list[str]:
    return [str(one) for one in _punkt().tokenize(text)]


@lru_cache(maxsize=1)
def _punkt() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types = set(_ABBREVIATIONS)
    return PunktSentenceTokenizer(parameters)


def _capital_words(text: str, given: Given) -> bool:
    from nltk.tokenize import NLTKWordTokenizer

    words = (word for part in _sentences(text) for word in NLTKWordTokenizer().tokenize(part))
    count = sum(word.isupper() for word in words)
    return _compared(count, given, "capital_relation", "capital_frequency")


def _paragraphs(text: str, given: Given) -> bool:
    parts = [bool(part.strip()) for part in re.split(r"\s?\*\*\*\s?", text)]
    if not all(parts[1:-1]):
        return False
    edges = {0, len(parts) - 1}
    empty = sum(not parts[place] for place in edges)
    return len(parts) - empty == int(given["num_paragraphs"])


def _first_word(text: str, given: Given) -> bool:
    parts = text.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    nth = int(given["nth_paragraph"])
    if nth > count or not parts[nth - 1].strip():
        return False
    word = parts[nth - 1].split()[0].lstrip("'").lstrip('"')
    stop = next((at for at, letter in enumerate(word) if letter in _STOPS), len(word))
    wanted = str(given["first_word"]).lower()
    return count == int(given["num_paragraphs"]) and word[:stop].lower() == wanted


def _postscript(text: str, given: Given) -> bool:
    marker = str(given["postscript_marker"]).strip()
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(known.get(marker, marker.lower()), text.lower()) is not None


def _bullets(text: str, given: Given) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == int(given["num_bullets"])


def _highlights(text: str, given: Given) -> bool:
    single = re.findall(r"\*[^\n\*]*\*", text)
    double = re.findall(r"\*\*[^\n\*]*\*\*", text)
    count = sum(bool(one.strip("*").strip()) for one in single)
    count += sum(bool(one[2:-2].strip()) for one in double)
    return count >= int(given["num_highlights"])


def _sections(text: str, given: Given) -> bool:
    mark = str(given["section_spliter"]).strip()
    count = len(re.split(rf"\s?{mark}\s?\d+\s?", text)) - 1
    return count >= int(given["num_sections"])


def _json(text: str, _: Given) -> bool:
    body = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        body = body.removeprefix(fence)
    try:
        json.loads(body.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, _: Given) -> bool:
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if start >= 0 and end > start + 2 and line[start:end].lstrip("<").rstrip(">").strip():
            return True
    return False


def _two_responses(text: str, _: Given) -> bool:
    parts = text.split("******")
    if not all(part.strip() for part in parts[1:-1]):
        return False
    said = [part.strip() for part in parts if part.strip()]
    return len(said) == 2 and said[0] != said[1]


def _in_english(text: str, written: Callable[[str], bool]) -> bool:
    return written(text) and tell_language(text if text.islower() else text.lower()) == "en"


def _language(text: str, given: Given) -> bool:
    wanted = str(given["language"]).lower()
    # zh-cn and zh-tw are langdetect's names.
    return tell_language(text) == wanted.split("-")[0]


_CHECKS: Mapping[str, Callable[[str, Given], bool]] = {
    "keywords:existence": lambda text, given: all(
        re.search(word, text, re.IGNORECASE) for word in given["keywords"]
    ),
    "keywords:frequency": _keyword_frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:number_sentences": lambda text, given: _compared(
        len(_sentences(text)), given, "relation", "num_sentences"
    ),
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": lambda text, given: _compared(
        len(re.findall(r"\w+", text)), given, "relation", "num_words"
    ),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": lambda text, given: (
        len(re.findall(r"\[.*?\]", text)) >= int(given["num_placeholders"])
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": lambda text, _: any(
        one in text for one in _CONSTRAINED
    ),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": lambda text, given: (
        text.strip().lower().startswith(str(given["prompt_to_repeat"]).strip().lower())
    ),
    "startend:end_checker": lambda text, given: (
        text.strip().strip('"').lower().endswith(str(given["end_phrase"]).strip().lower())
    ),
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": lambda text, _: _in_english(text, str.isupper),
    "change_case:english_lowercase": lambda text, _: _in_english(text, str.islower),
    "punctuation:no_comma": lambda text, _: "," not in text,
    "startend:quotation": lambda text, _: (
        len(text.strip()) > 1 and text.strip()[0] == '"' == text.strip()[-1]
    ),
}

INSTRUCTIONS = tuple(_CHECKS)
"""The 25 instructions of the published data set."""


@dataclass(frozen=True, slots=True)
class IfEval:
    """Share of responses that follow all instructions of their row (`level: prompt`), or the mean
    share of instructions that are followed (`level: instruction`).

    Rows are those of the data set google/IFEval: `instruction_id_list`, `kwargs`, `prompt`. With
    `loose` it is enough that one of an answer's `variants` follows an instruction.
    """

    level: Literal["prompt", "instruction"] = "prompt"
    loose: bool = False

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "ifeval",
            "higher",
            options=(("level", self.level), ("read", "loose" if self.loose else "strict")),
            reads=("instruction_id_list", "kwargs"),
        )

    def among(self, samples: Sequence[Sample]) -> IfEval:
        """This metric, once it is known that it can check all instructions of the samples."""
        for sample in samples:
            for one, given in zip(*_instructions(sample), strict=True):
                try:
                    follows("a", one, given)
                except (KeyError, ValueError, TypeError, re.error) as error:
                    known = one in _CHECKS
                    raise UserError(
                        f"sample {sample.id!r}: "
                        + (
                            f"the instruction {one!r} lacks or misnames an argument: {error}"
                            if known
                            else f"there is no instruction {one!r}"
                        ),
                        hint="rows are those of google/IFEval: see `instruction_id_list`, `kwargs`",
                    ) from None
        return self

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._value, silent=silent_as(0.0))

    def _value(self, sample: Sample, response: Response) -> Outcome:
        instructions, arguments = _instructions(sample)
        if not instructions:
            return Evidence.unscored(None, "the row has no `instruction_id_list`")
        prompt = str(sample.fields.get("prompt", ""))
        done = ifeval(response.text, instructions, arguments, prompt=prompt, loose=self.loose)
        return float(all(done)) if self.level == "prompt" else sum(done) / len(done)


def _instructions(sample: Sample) -> tuple[list[str], list[Given]]:
    """A row's instructions and the arguments of each, without those that are null."""
    names = list(sample.fields.get("instruction_id_list") or ())
    kwargs = list(sample.fields.get("kwargs") or ())
    kwargs += [{}] * (len(names) - len(kwargs))
    given: list[Given] = [
        {key: value for key, value in (one or {}).items() if value is not None}
        for one in kwargs[: len(names)]
    ]
    return names, given
