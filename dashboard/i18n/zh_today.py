"""The first page and people's answers in Chinese, by the English sentence."""

# ruff: noqa: E501

from __future__ import annotations

TODAY: dict[str, str] = {
    # The three questions.
    "Ship?": "能发布吗？",
    "Better?": "在变好吗？",
    "Serving?": "线上如何？",
    "Training": "训练",
    "training →": "查看训练 →",
    "promotions →": "查看批准历史 →",
    "watch →": "查看监控 →",
    "took {time}, {share} of it scoring, saving and loading": "已用 {time}，其中 {share} 用于评分、保存和加载",
    "; a grey rule is a promotion or a roll back": "；灰色竖线是批准或回退",
    "There is nothing to be better than yet.": "还没有可以比较的版本。",
    "{n} candidates since the promotion; the best is {name}, with {kept} of its tightest margin left. The last one used {share} of the margin of {metric}.": "自批准以来有 {n} 个候选；最好的是 {name}，最紧的余量还剩 {kept}。最近一个用掉了 {metric} 余量的 {share}。",
    "got worse in production, advisory: {signals}": "线上变差的参考信号：{signals}",
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
