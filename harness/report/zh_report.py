"""The words of the HTML report in Chinese, by the English ones."""

# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from harness.core.errors import UserError

Language = Literal["en", "zh"]
Say = Callable[[str], str]
"""English words to those of the page's language."""

REPORT: dict[str, str] = {
    "0 is the anchor, the dashed line the margin, the shaded band what it allows. Bars are {level} "
    "intervals of the paired change; what lies beyond the scale stands at its edge, with an arrow.": "0 是基准，虚线是余量边界，阴影是允许的范围。横条是配对变化的 {level} 置信区间；超出坐标范围的以箭头标在边缘。",
    "95% interval": "95% 置信区间",
    "Metrics": "指标",
    "Samples that moved most": "变化最大的样本",
    "Verdict": "判定",
    "Where it comes from": "来源",
    "advisory": "参考",
    "against": "对照",
    "anchor": "基准",
    "candidate": "候选",
    "change": "变化",
    "changes in margins": "以余量为单位的变化",
    "characters": "字符数",
    "evidence": "证据",
    "fail": "未通过",
    "incomparable": "不可比较",
    "inconclusive": "尚无定论",
    "margin": "余量",
    "metric": "指标",
    "model": "模型",
    "nats per token": "奈特/词元",
    "not scored because": "未评分原因",
    "pass": "通过",
    "perplexity per token": "每词元困惑度",
    "points 0-100": "0–100 分",
    "probability": "概率",
    "required": "必需",
    "role": "角色",
    "run": "运行",
    "scored": "已评分",
    "seconds": "秒",
    "seed": "种子",
    "setting": "设置",
    "share": "比例",
    "suite": "评测集",
    "unit": "单位",
    "value": "数值",
    "verdict": "判定",
    "watched": "监控",
    "worse ← margins → better": "变差 ← 余量倍数 → 变好",
}


def language_of(name: str) -> Language:
    """A language that a user named. Raises UserError for one that the report doesn't have."""
    if name == "en":
        return "en"
    if name == "zh":
        return "zh"
    raise UserError(f"there is no report in {name!r}", field="--lang", hint="en or zh")


def in_language(language: Language) -> Say:
    """Its words: what isn't known in Chinese stays English."""
    return (lambda text: REPORT.get(text, text)) if language == "zh" else (lambda text: text)
