"""What is said of a line's state in Chinese, by the English sentence of `comparison.line_words`."""

# ruff: noqa: E501

from __future__ import annotations

from harness.comparison.line_words import Sentence
from harness.report.zh_reasons import chinese
from harness.report.zh_report import Language

STATE: dict[str, str] = {
    "Its files can't be read: {problem}": "文件无法读取：{problem}",
    "Nothing is promoted yet.": "还没有批准任何版本。",
    "{version} ({digest}) serves again since {when}: {reason}": "{version}（{digest}）自 {when} 起重新上线：{reason}",
    "{version} ({digest}) is promoted since {when}, by override: {reason}": "{version}（{digest}）自 {when} 起为已批准版本，越过闸门批准：{reason}",
    "{version} ({digest}) is promoted since {when}; it was compared with nothing.": "{version}（{digest}）自 {when} 起为已批准版本；没有与任何版本比较过。",
    "{version} ({digest}) is promoted since {when}, on a PASS.": "{version}（{digest}）自 {when} 起为已批准版本，判定为通过。",
    "{version} ({digest}) is promoted since {when}: proven better.": "{version}（{digest}）自 {when} 起为已批准版本：已证实更好。",
    "The gate has judged no candidate yet.": "闸门还没有判定过候选。",
    "The candidate judged last is what is promoted.": "最近判定的候选就是已批准版本。",
    "The candidate judged last, {name}, was promoted and taken back.": "最近判定的候选 {name} 曾获批准，后被撤回。",
    "Nothing was judged since; before that, {name} was not promoted.": "此后没有新的判定；在那之前，{name} 未获批准。",
    "Candidate {name} failed: don't ship it.": "候选 {name} 未通过：不要发布。",
    "Candidate {name} is undecided: not yet.": "候选 {name} 尚无定论：暂不发布。",
    "Candidate {name} could not be compared: nothing was shown.": "候选 {name} 无法比较：什么也没有得到证实。",
    "Candidate {name} passed, but against something else than what is promoted.": "候选 {name} 已通过，但比较的对象不是当前已批准版本。",
    "Candidate {name} may ship; nobody has promoted it.": "候选 {name} 可以发布，尚无人批准。",
    "Its traffic is not watched.": "没有监控它的流量。",
    "Traffic was seen, and nothing is promoted that it could be judged as.": "有流量记录，但没有已批准版本可供对照。",
    "An alarm was called false: {reason}": "告警已标为误报：{reason}",
    "Nobody has looked at this version yet.": "还没有人检查过这个版本。",
    "PASS: within the margins on {n} conversations, looked at {when} UTC.": "通过：{n} 次会话均在余量之内，检查于 {when} UTC。",
    "Nothing failed so far on {n} conversations, looked at {when} UTC.": "{n} 次会话中尚无信号未通过，检查于 {when} UTC。",
    "A canary runs: {digest} has {share} of the traffic.": "金丝雀发布进行中：{digest} 承担 {share} 的流量。",
    "No conversation is counted yet, looked at {when} UTC.": "尚无会话计入，检查于 {when} UTC。",
    "{n} conversations came in that the last look has not counted: each settles first (settle in the policy, 10 min by default).": "另有 {n} 次会话未计入最近一次检验：每次会话需先沉淀一段时间（策略中的 settle，默认 10 分钟）。",
    "FAIL: {signals} since {when} UTC, on {n} conversations; nothing could be done: {reason}": "未通过：{signals}，自 {when} UTC，共 {n} 次会话；无法处置：{reason}",
    "FAIL: {signals} since {when} UTC, on {n} conversations; nothing was done about it.": "未通过：{signals}，自 {when} UTC，共 {n} 次会话；尚未处置。",
    "{line}: its canary {digest} fails ({signals}). End it.": "{line}：金丝雀 {digest} 未通过（{signals}）。请终止。",
    "{line}: its canary {digest} failed ({signals}).": "{line}：金丝雀 {digest} 未通过（{signals}）。",
    "{line}: what is served fails ({signals}), and nothing could be done: {reason}": "{line}：线上版本未通过（{signals}），且无法处置：{reason}",
    "{line}: what is served fails ({signals}), and nothing was done about it.": "{line}：线上版本未通过（{signals}），尚未处置。",
    "{line}: {digest} failed in production ({signals}) and was taken back.": "{line}：{digest} 在线上未通过（{signals}），已撤回。",
    "{line}: {digest} failed in production ({signals}) on {when} UTC; that is over.": "{line}：{digest} 于 {when} UTC 在线上未通过（{signals}）；现已结束。",
    "{line}: got worse in production, advisory: {signals}.": "{line}：线上变差的参考信号：{signals}。",
    "{line}: its files can't be read: {problem}": "{line}：文件无法读取：{problem}",
    "{line}: the promoted version was promoted by override.": "{line}：已批准版本是越过闸门批准的。",
    "{line}: the last candidate failed. Find out why, or leave it.": "{line}：最近的候选未通过。查明原因，或不予理会。",
    "{line}: the last candidate is undecided.": "{line}：最近的候选尚无定论。",
    "{line}: the last candidate could not be compared with the anchor.": "{line}：最近的候选无法与基准比较。",
    "{line}: the last candidate passed against something else than what is promoted. Gate it again.": "{line}：最近的候选已通过，但比较的对象不是当前已批准版本。请再过一次闸门。",
    "{line}: the last candidate passed and is not promoted yet.": "{line}：最近的候选已通过，尚未批准。",
    "Training {id} has stopped ({status}) and waits for you.": "训练 {id} 已停止（{status}），等待处理。",
    "Nothing was heard of training {id} since {when} UTC. The same command goes on with it.": "自 {when} UTC 起没有训练 {id} 的消息。用同一条命令即可继续。",
}


def in_words(said: Sentence, language: Language) -> str:
    """The sentence in that language, with the watch's reasons in it."""
    if language == "en":
        return str(said)
    values = {name: str(value) for name, value in said.values.items()}
    if "reason" in values:
        values["reason"] = chinese(values["reason"])
    return STATE.get(said.text, said.text).format(**values)
