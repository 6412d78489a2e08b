"""How fast the metrics are, each beside its reference implementation in the same run.

fast-bleu is compiled into a virtual environment of its own (`.venv-fast-bleu`, made here); where
that fails its row is left out.
"""

from __future__ import annotations

import json
import logging
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from tests.benchmarks.peers import python_of

Row = dict[str, object]


def run(quick: bool = False) -> list[Row]:
    """All rows. `quick` takes a tenth of the data and says so in the notes."""
    part = 10 if quick else 1
    # Without a workspace nothing is remembered on disk from one round to the next.
    nowhere = str(Path(tempfile.gettempdir()) / "no-ratchet-workspace-here")
    with mock.patch.dict(os.environ, HF_HUB_OFFLINE="1", RATCHET_HOME=nowhere):
        rows = [
            self_bleu_against_sacrebleu(1000 // part, rounds=1 if quick else 3),
            *self_bleu_against_fast_bleu(5000 // part, rounds=1 if quick else 3),
            *bertscore(300 // part, rounds=1 if quick else 3),
            rouge(400 // part),
            toxicity(2000 // part),
            elo(1_000_000 // part),
            sensitive_words(10_000 // part, 10_000_000 // part),
            languages(20_000 // part),
            filters(4000 // part),
        ]
    if quick:
        rows = [row | {"note": f"{row['note']}; quick: a tenth of the data"} for row in rows]
    return rows


def self_bleu_against_sacrebleu(n: int, rounds: int) -> Row:
    from sacrebleu.metrics import BLEU

    from harness.metrics.self_bleu import self_bleu

    texts, sampled = _texts(n, seed=1), min(n, 20)
    bleu = BLEU(effective_order=True)

    def loop() -> list[float]:
        return [
            bleu.sentence_score(texts[i], texts[:i] + texts[i + 1 :]).score / 100
            for i in range(sampled)
        ]

    (ours, values), (peer, expected) = _interleaved(lambda: self_bleu(texts), loop, rounds)
    peer *= n / sampled
    worst = max(abs(a - b) for a, b in zip(values[:sampled], expected, strict=True))
    return _row(
        f"Self-BLEU of {n} texts, times as fast",
        ours,
        peer,
        "sacrebleu's loop",
        peer / ours,
        "at least 500",
        f"the loop timed on {sampled} texts against all others, times {n // sampled}; "
        f"largest difference {worst:.1e}",
    )


def self_bleu_against_fast_bleu(n: int, rounds: int) -> list[Row]:
    from harness.metrics.self_bleu import self_bleu
    from harness.metrics.support.tokens import tokenize_all

    python = python_of("fast-bleu", ("fast-bleu",))
    if python is None:
        return []
    texts = _texts(n, seed=2)
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens.json"
        tokens.write_text(json.dumps(tokenize_all(texts, "13a")), encoding="utf-8")

        def fast_bleu() -> float:
            done = subprocess.run(
                [python, "-c", _FAST_BLEU, tokens], capture_output=True, text=True, check=True
            )
            return float(done.stdout)

        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(_timed(lambda: self_bleu(texts))[0])
            theirs.append(fast_bleu())
    mine, peer = statistics.median(ours), statistics.median(theirs)
    return [
        _row(
            f"Self-BLEU of {n} texts, times as fast",
            mine,
            peer,
            "fast-bleu (C++)",
            peer / mine,
            "at least 3",
            "fast-bleu gets tokens, ours tokenizes too; its smoothing differs, so do its values",
        )
    ]


_FAST_BLEU = """
import json, sys, time
from fast_bleu import SelfBLEU
tokens = json.load(open(sys.argv[1]))
started = time.perf_counter()
SelfBLEU(tokens, {4: (0.25,) * 4}).get_score()
print(time.perf_counter() - started)
"""


def bertscore(n: int, rounds: int) -> list[Row]:
    import bert_score

    from harness.metrics import bertscore as module
    from harness.metrics.support import encoders

    model = str(encoders.embedded_encoder())
    references = _texts(n, seed=3, longest=40)
    first, second = (_texts(n, seed=seed, longest=40) for seed in (4, 5))

    def cold() -> Any:
        module.forget()
        return module.bertscore(first, references, model=model, layer=6)

    def warm() -> Any:
        return module.bertscore(second, references, model=model, layer=6)

    def peer(candidates: list[str]) -> Any:
        return bert_score.score(candidates, references, model_type=model, num_layers=6)

    peer(first[:2] * (n // 2))
    times: dict[str, list[float]] = {"cold": [], "warm": [], "peer": []}
    for _ in range(rounds):
        taken, ours = _timed(cold)
        times["cold"].append(taken)
        times["warm"].append(_timed(warm)[0])
        taken, theirs = _timed(lambda: peer(first))
        times["peer"].append(taken)
    worst = max(float(abs(a - b.double().numpy()).max()) for a, b in zip(ours, theirs, strict=True))
    median = {name: statistics.median(values) for name, values in times.items()}
    name = f"BERTScore of {n} pairs, share of the peer's time"
    said = f"all-MiniLM-L6-v2, layer 6; largest difference {worst:.1e}"
    return [
        _row(
            f"{name}: {kind}",
            median[key],
            median["peer"],
            "bert-score",
            median[key] / median["peer"],
            goal,
            said,
        )
        for kind, key, goal in (
            ("cold, loading included", "cold", "at most 0.9"),
            ("references embedded for an earlier checkpoint", "warm", "at most 0.5"),
        )
    ]


def rouge(n: int) -> Row:
    from rouge_score.rouge_scorer import RougeScorer

    from harness.metrics.rouge import rouge as ours

    left, right = _texts(n, seed=6, longest=120), _texts(n, seed=7, longest=120)
    scorer = RougeScorer(["rougeL"])
    (mine, values), (peer, theirs) = _interleaved(
        lambda: [ours(a, r).f1 for a, r in zip(left, right, strict=True)],
        lambda: [scorer.score(r, a)["rougeL"].fmeasure for a, r in zip(left, right, strict=True)],
        rounds=3,
    )
    worst = max(abs(a - b) for a, b in zip(values, theirs, strict=True))
    note = f"largest difference {worst:.1e}"
    return _row(
        f"ROUGE-L of {n} pairs, times as fast", mine, peer, "rouge-score", peer / mine,
        "not slower: 1", note,
    )  # fmt: skip


def toxicity(n: int) -> Row:
    import profanity_check

    from harness.metrics.toxicity import toxicity as ours

    texts = _texts(n, seed=8)
    (mine, values), (peer, theirs) = _interleaved(
        lambda: ours(texts), lambda: profanity_check.predict_prob(texts), rounds=5
    )
    return _row(
        f"toxicity of {n} texts, times as fast", mine, peer, "predict_prob", peer / mine,
        "at least its own batched speed: 1",
        f"largest difference {abs(values - theirs).max():.1e}; ours also tells the language",
    )  # fmt: skip


def elo(votes: int, models: int = 100, resamples: int = 200) -> Row:
    """The peer has no intervals: it is refitted for as many resamples as are usual."""
    import evalica
    import numpy as np
    import pandas as pd

    from harness.statistics.elo import rate

    rng = np.random.default_rng(9)
    strength = rng.normal(size=models)
    left = rng.integers(0, models, votes)
    right = (left + rng.integers(1, models, votes)) % models
    won = rng.random(votes) < 1 / (1 + np.exp(strength[right] - strength[left]))
    choice = np.where(rng.random(votes) < 0.2, "tie", np.where(won, "left", "right"))
    names = np.array([f"model-{i}" for i in range(models)])
    frame = pd.DataFrame({"left": names[left], "right": names[right], "choice": choice})
    kinds = {
        "left": evalica.Winner.X,
        "right": evalica.Winner.Y,
        "tie": evalica.Winner.Draw,
    }
    winners = [kinds[c] for c in choice]
    (mine, _), (one_fit, _) = _interleaved(
        lambda: rate(frame),
        lambda: evalica.bradley_terry(frame["left"], frame["right"], winners),
        rounds=3,
    )
    clustered = frame.assign(
        rater=rng.integers(0, 2000, votes), prompt=rng.integers(0, 5000, votes)
    )
    both = _timed(lambda: rate(clustered))[0]
    peer = one_fit * resamples
    return _row(
        f"Elo of {votes} votes over {models} models with 95% intervals, times as fast",
        mine, peer, f"evalica refitted for {resamples} resamples", peer / mine,
        "at least 10, and at most 10 s",
        f"evalica: one fit ({one_fit:.2f} s) times {resamples}; clustered by rater and prompt "
        f"ours takes {both:.2f} s",
    )  # fmt: skip


def sensitive_words(words: int, size: int) -> Row:
    from harness.metrics.support.aho_corasick import Automaton

    rng = random.Random(10)
    letters = "abcdefghijklmnopqrstuvwxyz"
    listed = sorted({"".join(rng.choices(letters, k=rng.randint(4, 12))) for _ in range(words)})
    text = "".join(rng.choices(letters + " ", k=size))
    sampled = listed[:: max(1, len(listed) // 50)]
    (mine, hits), (peer, naive) = _interleaved(
        lambda: Automaton(listed).find([text])[1],
        lambda: [text.count(word) for word in sampled],
        rounds=3,
    )
    place = {word: index for index, word in enumerate(listed)}
    same = all((hits == place[word]).sum() >= n for word, n in zip(sampled, naive, strict=True))
    assert same, "the automaton missed a word"
    peer *= len(listed) / len(sampled)
    return _row(
        f"{len(listed)} words in {size / 1e6:g} MB of text, times as fast",
        mine, peer, "str.count of each word", peer / mine, "at most 2 s",
        f"the peer timed on {len(sampled)} words; building the automaton is included",
    )  # fmt: skip


def languages(n: int) -> Row:
    """Telling the language of sentences on one core: every second one is English, which is asked
    about longest, the others are in ten languages.
    """
    from harness.core.told_language import tell_language

    texts = [f"{SENTENCES[i // 2 % len(SENTENCES) if i % 2 else 0]} {i}" for i in range(n)]
    tell_language(texts[0])
    taken, told = _timed(lambda: [tell_language(text) for text in texts])
    peer = n / 5000
    known = sum(code is not None for code in told)
    return _row(
        f"languages of {n} texts, times as fast",
        taken, peer, "5,000 texts/s", peer / taken, "at least 1: 5,000 texts/s on one core",
        f"{n / taken:,.0f} texts/s; of {known} a language was told",
    )  # fmt: skip


SENTENCES = (
    "The parcel was delivered to the wrong house yesterday.",
    "\u5305\u88f9\u6628\u5929\u9001\u9519\u4e86\u5730\u65b9\u3002",
    "Das Paket wurde gestern am falschen Haus abgegeben.",
    "Le colis a \u00e9t\u00e9 livr\u00e9 hier \u00e0 la mauvaise maison.",
    "El paquete fue entregado ayer en la casa equivocada.",
    "Il pacco \u00e8 stato consegnato ieri alla casa sbagliata.",
    "O pacote foi entregue ontem na casa errada.",
    "\u041f\u043e\u0441\u044b\u043b\u043a\u0443 \u0432\u0447\u0435\u0440\u0430 "
    "\u0434\u043e\u0441\u0442\u0430\u0432\u0438\u043b\u0438 \u043d\u0435 \u0442\u0443\u0434\u0430.",
    "\u8377\u7269\u306f\u6628\u65e5\u9055\u3046\u5bb6\u306b\u5c4a\u304d\u307e\u3057\u305f\u3002",
    "De doos is gisteren bij het verkeerde huis bezorgd.",
)


def filters(n: int) -> Row:
    """What a chain of filters costs beside the cheapest metrics that score what it leaves."""
    from harness.core.types import Response, Sample
    from harness.metrics import get_metric
    from harness.metrics.base import MetricItem
    from harness.suite.answers import AnswerModel

    chain = AnswerModel.model_validate(
        {
            "after": "####",
            "code_fence": True,
            "regex": r"is (.+)",
            "last_number": True,
            "strip": True,
        }
    )
    thought = f"<think>{' '.join(_texts(4, seed=3))}</think>"
    answers = [
        f"{thought}{text}\n#### The result is {i}" for i, text in enumerate(_texts(n, seed=2))
    ]
    metrics = [get_metric("exact_match"), get_metric("rouge_l")]

    def read() -> list[str]:
        return [chain.read(answer).text for answer in answers]

    def score(texts: list[str]) -> None:
        items = [
            MetricItem(
                Sample(str(i), "t", references=(str(i),)),
                (Response(str(i), str(i), "t", "generation", 0, 0, text),),
            )
            for i, text in enumerate(texts)
        ]
        for metric in metrics:
            metric.score(items)

    (mine, texts), (peer, _) = _interleaved(read, lambda: score(answers), rounds=3)
    assert texts == [str(i) for i in range(n)], "the chain read another result"
    return _row(
        f"a chain of five filters over {n} answers, share of scoring them",
        mine, peer, "exact_match and rouge_l of the same answers", mine / peer, "at most 0.05",
        f"{1e6 * mine / n:.1f} microseconds an answer, its thought included",
    )  # fmt: skip


def _texts(n: int, seed: int, longest: int = 30) -> list[str]:
    """Made-up sentences whose words are as unevenly frequent as those of a language."""
    rng = random.Random(seed)
    words = [f"{a}{b}" for a in ("ka", "to", "mi", "re", "su") for b in map(str, range(600))]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    return [
        " ".join(rng.choices(words, weights, k=rng.randint(5, longest))) + "." for _ in range(n)
    ]


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def _interleaved(
    ours: Callable[[], Any], peer: Callable[[], Any], rounds: int
) -> tuple[tuple[float, Any], tuple[float, Any]]:
    """(median seconds, last result) of both, called in turn."""
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        taken, own_result = _timed(ours)
        mine.append(taken)
        taken, peer_result = _timed(peer)
        theirs.append(taken)
    return (statistics.median(mine), own_result), (statistics.median(theirs), peer_result)


def _row(what: str, ours: float, peer: float, name: str, ratio: float, goal: str, note: str) -> Row:
    return {
        "what": what,
        "ours": f"{ours:.3g} s",
        "peer": f"{peer:.3g} s ({name})",
        "ratio": ratio,
        "goal": goal,
        "note": note,
    }
