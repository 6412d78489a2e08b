"""Errors that a page can meet, in Chinese, by the English sentence with its {places}."""

# ruff: noqa: E501

from __future__ import annotations

import re
from functools import cache

ERRORS: dict[str, str] = {
    "the store is held by {holder}; waited {seconds} s": "存储被 {holder} 占用，已等待 {seconds} 秒",
    "end that program or let it finish; rows appended meanwhile are safe": "请结束该程序或等它完成；期间写入的数据不会丢失",
    "the file system has no locks, so two programs could write the store at once": "该文件系统不支持锁，两个程序可能同时写入存储",
    "the store has a newer schema ({found}; this Ratchet knows {known})": "存储的结构版本较新（{found}；当前 Ratchet 只认识 {known}）",
    "upgrade Ratchet": "请升级 Ratchet",
    "this file is not a DuckDB database": "此文件不是 DuckDB 数据库",
    "this DuckDB file is not a store of Ratchet": "此 DuckDB 文件不是 Ratchet 的存储",
    "choose another folder with --home DIR, or move the file away; it is left as it is": "请用 --home DIR 另选文件夹，或移走该文件；文件未被改动",
    "free some space or fix the folder's permissions, then run it again": "请腾出空间或修正文件夹权限，然后重试",
    "the workspace can't be written: {why}": "无法写入工作区：{why}",
    "choose another folder with --home DIR, or fix its permissions": "请用 --home DIR 另选文件夹，或修正其权限",
    "the anchor {name} has no vote that ranks it": "基准 {name} 还没有分出高下的票",
    "no vote ranks one model above another": "还没有分出模型高下的票",
    "a vote compares {model} with itself": "有一票把 {model} 与它自己比较",
    "the verdict compares with no other run": "这个判定没有对照另一次运行",
    "no metric of this verdict has values of single samples in both runs": "这个判定的指标在两次运行中都没有单个样本的数值",
    "no answer changed, and no text has the probabilities of the same tokens in both runs": "没有回答发生变化，也没有文本在两次运行中都存有相同词元的概率",
    "free some space or fix the file; what was acknowledged is still there": "请腾出空间或修复文件；已确认写入的数据仍在",
}


def chinese(text: str) -> str:
    """The error in Chinese; as it came where it is none of these."""
    for pattern, said in _patterns():
        if found := pattern.fullmatch(text):
            return said.format(**found.groupdict())
    return text


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    found = []
    for english, said in ERRORS.items():
        escaped = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+?)", re.escape(english))
        found.append((re.compile(escaped), said))
    return found
