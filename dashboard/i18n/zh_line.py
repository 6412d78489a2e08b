"""The first page and the state of a line in Chinese, by the English sentence."""

# ruff: noqa: E501

from __future__ import annotations

LINE: dict[str, str] = {
    # The three questions.
    "Ship?": "能发布吗？",
    "Better?": "在变好吗？",
    "Serving?": "线上如何？",
    "Training": "训练",
    "training →": "查看训练 →",
    "watch →": "查看监控 →",
    "There is nothing to be better than yet.": "还没有可以比较的版本。",
    "{n} candidates since the promotion; the best is {name}, with {kept} of its tightest margin left. The last one used {share} of the margin of {metric}.": "自批准以来有 {n} 个候选；最好的是 {name}，最紧的余量还剩 {kept}。最近一个用掉了 {metric} 余量的 {share}。",
    "got worse in production, advisory: {signals}": "线上变差的参考信号：{signals}",
    # What is promoted.
    "Its files can't be read: {problem}": "文件无法读取：{problem}",
    "Nothing is promoted yet.": "还没有批准任何版本。",
    "{version} ({digest}) serves again since {when}: {reason}": "{version}（{digest}）自 {when} 起重新上线：{reason}",
    "{version} ({digest}) is promoted since {when}, by override: {reason}": "{version}（{digest}）自 {when} 起为已批准版本，越过闸门批准：{reason}",
    "{version} ({digest}) is promoted since {when}; it was compared with nothing.": "{version}（{digest}）自 {when} 起为已批准版本；没有与任何版本比较过。",
    "{version} ({digest}) is promoted since {when}, on a PASS.": "{version}（{digest}）自 {when} 起为已批准版本，判定为通过。",
    "{version} ({digest}) is promoted since {when}: proven better.": "{version}（{digest}）自 {when} 起为已批准版本：已证实更好。",
    # The candidate.
    "The gate has judged no candidate yet.": "闸门还没有判定过候选。",
    "The candidate judged last is what is promoted.": "最近判定的候选就是已批准版本。",
    "The candidate judged last, {name}, was promoted and taken back.": "最近判定的候选 {name} 曾获批准，后被撤回。",
    "Nothing was judged since; before that, {name} was not promoted.": "此后没有新的判定；在那之前，{name} 未获批准。",
    "Candidate {name} failed: don't ship it.": "候选 {name} 未通过：不要发布。",
    "Candidate {name} is undecided: not yet.": "候选 {name} 尚无定论：暂不发布。",
    "Candidate {name} could not be compared: nothing was shown.": "候选 {name} 无法比较：什么也没有得到证实。",
    "Candidate {name} passed, but against something else than what is promoted.": "候选 {name} 已通过，但比较的对象不是当前已批准版本。",
    "Candidate {name} may ship; nobody has promoted it.": "候选 {name} 可以发布，尚无人批准。",
    # Production.
    "Its traffic is not watched.": "没有监控它的流量。",
    "Traffic was seen, and nothing is promoted that it could be judged as.": "有流量记录，但没有已批准版本可供对照。",
    "An alarm was called false: {reason}": "告警已标为误报：{reason}",
    "Nobody has looked at this version yet.": "还没有人检查过这个版本。",
    "PASS: within the margins on {n} conversations, looked at {when} UTC.": "通过：{n} 次会话均在余量之内，检查于 {when} UTC。",
    "Nothing failed so far on {n} conversations, looked at {when} UTC.": "{n} 次会话中尚无信号未通过，检查于 {when} UTC。",
    "FAIL: {signals} since {when} UTC, on {n} conversations; nothing could be done: {reason}": "未通过：{signals}，自 {when} UTC，共 {n} 次会话；无法处置：{reason}",
    "FAIL: {signals} since {when} UTC, on {n} conversations; nothing was done about it.": "未通过：{signals}，自 {when} UTC，共 {n} 次会话；尚未处置。",
    # What needs a human.
    "{line}: its canary {digest} fails ({signals}). End it.": "{line}：金丝雀 {digest} 未通过（{signals}）。请终止。",
    "{line}: its canary {digest} failed ({signals}).": "{line}：金丝雀 {digest} 未通过（{signals}）。",
    "{line}: what is served fails ({signals}), and nothing could be done: {reason}": "{line}：线上版本未通过（{signals}），且无法处置：{reason}",
    "{line}: what is served fails ({signals}), and nothing was done about it.": "{line}：线上版本未通过（{signals}），尚未处置。",
    "{line}: {digest} failed in production ({signals}) and was taken back.": "{line}：{digest} 在线上未通过（{signals}），已撤回。",
    "{line}: {digest} failed in production ({signals}) on {when} UTC; that is over.": "{line}：{digest} 于 {when} UTC 在线上未通过（{signals}）；现已结束。",
    "{line}: got worse in production, advisory: {signals}.": "{line}：线上变差的参考信号：{signals}。",
    "{line}: its files can't be read: {problem}": "{line}：文件无法读取：{problem}",
    "{line}: the last candidate is undecided.": "{line}：最近的候选尚无定论。",
    "{line}: the last candidate passed against something else than what is promoted. Gate it again.": "{line}：最近的候选已通过，但比较的对象不是当前已批准版本。请再过一次闸门。",
    "Nothing was heard of training {id} since {when} UTC. The same command goes on with it.": "自 {when} UTC 起没有训练 {id} 的消息。用同一条命令即可继续。",
    # What people answer.
    "Answer": "处理",
    "Your name": "你的名字",
    "Reason or note": "原因或备注",
    "Acknowledge": "已知悉",
    "False alarm": "误报",
    "I take care of it": "由我负责",
    "Add the note": "添加备注",
    "Put off": "稍后提醒",
    "Put off for": "推迟时间",
    "acknowledged by {who}": "{who} 已知悉",
    "{who} called it a false alarm: {why}": "{who} 标为误报：{why}",
    "{who} takes care of it": "由 {who} 负责",
    "put off until {when} UTC": "推迟到 {when} UTC",
}
