"""The demo's questions and answers, generated from a seed and a quality level."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.types import Response
from harness.evaluation.plan import Wanted
from harness.suite.load import load_suite
from harness.suite.suite import Suite

SEED = 20
CITIES = {"en": ("Berlin", "Lima", "Oslo", "Nairobi"), "zh": ("北京", "上海", "成都", "广州")}
ASKED = {
    "en": ("Please send order {order} to {city} instead.", "Order {order} should go to {city}."),
    "zh": ("请把订单{order}改寄到{city}。", "订单{order}的地址换成{city}，谢谢。"),
}
CHATTER = {
    "en": ("How do I return shoes?", "Is the shop open on Sunday?", "Which size fits me?"),
    "zh": ("鞋子怎么退货？", "星期天营业吗？", "我该选哪个尺码？"),
}
WORDS = {
    "en": "happy to help you may bring it back within thirty days and we will gladly change it",
    "zh": "您好 可以 在 三十天 内 退换 我们 会 尽快 为您 处理 请 保留 好 小票 谢谢",
}
REFUSALS = {"en": "I'm sorry, I can't help with that.", "zh": "抱歉，我无法回答这个问题。"}
BROKEN = "Sorry, something went wrong on our side. Please try again later."
PASSAGES = ("The river ran quietly past the mill.", "集市在清晨开张，人们带来蔬菜和布匹。")

SUITE: dict[str, Any] = {
    "name": "demo-support",
    "tasks": {
        "intents": {
            "data": "intents.jsonl",
            "prompt": {"system": "Answer with one JSON intent.", "user": "{{ message }}"},
            "generate": {"max_new_tokens": 48, "temperature": 0},
            "reference": "{{ intent }}",
            "metrics": ["json_match", "json_valid", "rouge_l"],
        },
        "replies": {
            "data": "replies.jsonl",
            "prompt": {"user": "{{ message }}"},
            "generate": {"responses": 4, "temperature": 0.8, "max_new_tokens": 64},
            "metrics": ["refusal", "self_bleu"],
        },
        "general": {
            "data": "general.jsonl",
            "text": "{{ text }}",
            "metrics": ["perplexity"],
        },
    },
    "gate": {
        "margin": 0.05,
        "metrics": {
            "intents/json_match": {"required": True},
            "intents/json_valid": {"required": True},
            "general/perplexity": {"required": True},
            "intents/rouge_l": {"advisory": True},
            "replies/refusal": {"advisory": True, "floor": 0.02},
            "replies/self_bleu": {"advisory": True},
        },
    },
}


@dataclass(frozen=True, slots=True)
class Dials:
    """How good a synthetic model is.

    skill      share of intents that it gets right, 0 to 1
    chinese    what is taken off that in Chinese
    words      words in a free reply
    refusing   share of free replies that refuse
    nats       negative log-likelihood of general text, nats per token
    broken     share of intents answered by the sentence of the spoiled data
    """

    skill: float
    chinese: float = 0.0
    words: int = 9
    refusing: float = 0.02
    nats: float = 2.9
    broken: float = 0.0


def write_suite(folder: Path) -> Suite:
    """The demo's suite as files, so that every verb can read it."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("intents", _intents()), ("replies", _replies()), ("general", _general())):
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "suite.yaml"
    head = "# Synthetic: written by `ratchet demo-data`.\n"
    path.write_text(
        head + yaml.safe_dump(SUITE, allow_unicode=True, sort_keys=False), encoding="utf-8"
    )
    return load_suite(path)


def answers(wanted: Sequence[Wanted], dials: Dials, salt: str) -> Iterator[Response]:
    """One response to each question. `salt` is what makes two models of the same dials differ."""
    for want in wanted:
        luck = random.Random(f"{SEED}|{want.sample.id}|{want.index}")
        noise = random.Random(f"{SEED}|{want.sample.id}|{want.index}|{salt}")
        text, logprobs = _answer(want, dials, luck.random(), noise)
        yield Response(
            key=want.key,
            sample_id=want.sample.id,
            task=want.task.name,
            kind=want.kind,
            index=want.index,
            draw=want.draw,
            text=text,
            token_ids=tuple(range(len(logprobs))) if logprobs else (),
            logprobs=logprobs,
            latency_s=round(0.2 + 0.02 * len(text) * (0.8 + 0.4 * noise.random()), 3),
        )


def _answer(
    want: Wanted, dials: Dials, luck: float, noise: random.Random
) -> tuple[str, tuple[float, ...] | None]:
    sample = want.sample
    if want.kind == "text":
        nats = dials.nats * (0.7 + 0.6 * luck) * (0.995 + 0.01 * noise.random())
        return sample.text or "", (-nats,) * 40
    if want.task.name == "intents":
        return _intent(sample.fields, dials, luck, noise), None
    return _reply(sample.language or "en", dials, noise), None


def _intent(fields: Mapping[str, Any], dials: Dials, luck: float, noise: random.Random) -> str:
    right = str(fields["intent"])
    if noise.random() < dials.broken:
        return BROKEN
    skill = dials.skill - (dials.chinese if fields["language"] == "zh" else 0.0)
    if 0.98 * luck + 0.02 * noise.random() < skill:
        return right
    wrong = json.loads(right)
    cities = [city for city in CITIES[fields["language"]] if city != wrong["city"]]
    wrong["city"] = cities[int(luck * 1e6) % len(cities)]
    text = json.dumps(wrong, ensure_ascii=False, separators=(",", ":"))
    return text if luck < 0.97 else text[:-1]


def _reply(language: str, dials: Dials, noise: random.Random) -> str:
    if noise.random() < dials.refusing:
        return REFUSALS[language]
    words = WORDS[language].split()
    count = max(2, round(dials.words * (0.7 + 0.6 * noise.random())))
    return ("" if language == "zh" else " ").join(noise.choice(words) for _ in range(count))


def _intents() -> Iterator[dict[str, str]]:
    rng = random.Random(SEED)
    for number in range(200):
        language = "zh" if number % 2 else "en"
        order = f"R-{rng.randrange(1000, 10_000)}"
        city = rng.choice(CITIES[language])
        intent = {"intent": "address", "order": order, "city": city}
        yield {
            "id": f"intent-{number:03}",
            "language": language,
            "message": rng.choice(ASKED[language]).format(order=order, city=city),
            "intent": json.dumps(intent, ensure_ascii=False, separators=(",", ":")),
        }


def _replies() -> Iterator[dict[str, str]]:
    for number in range(24):
        language = "zh" if number % 2 else "en"
        said = CHATTER[language][number // 2 % 3]
        yield {"id": f"reply-{number:02}", "language": language, "message": said}


def _general() -> Iterator[dict[str, str]]:
    for number in range(40):
        yield {
            "id": f"passage-{number:02}",
            "language": "zh" if number % 2 else "en",
            "text": f"{PASSAGES[number % 2]} ({number})",
        }
