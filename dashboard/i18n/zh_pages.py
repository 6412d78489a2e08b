"""The pages of runs, samples, trainings and humans in Chinese, by the English sentence."""

# ruff: noqa: E501

from __future__ import annotations

PAGES: dict[str, str] = {
    # Links, the menu, and what is not there.
    "Link to this page": "本页链接",
    "Try again": "重试",
    "choose": "请选择",
    "{what} {name} is not here. It may belong to another workspace, or have been removed.": "这里没有{what} {name}。它可能属于另一个工作区，或已被移除。",
    # Charts in units of the margin.
    "0 is the anchor; the dashed line is the margin, and the shaded band what it allows. Bars are "
    "{level} intervals of the paired change; what lies beyond the scale stands at its edge, with "
    "an arrow. A click leads to the samples.": "0 是基准；虚线是余量边界，阴影是允许的范围。横条是配对变化的 {level} 置信区间；超出坐标范围的以箭头标在边缘。点击可查看样本。",
    "Blue is better than what it is compared with, orange is worse; −1 has used up the margin. A "
    "dot means that the 95% interval of the paired change leaves out 0; without one the cell is "
    "faded. A click leads to the samples.": "蓝色优于对照，橙色劣于对照；−1 表示余量用尽。圆点表示配对变化的 95% 置信区间不含 0，没有圆点的格子颜色较淡。点击可查看样本。",
    "Compared with": "对照",
    "the best checkpoint so far": "此前的最佳检查点",
    # Compare.
    "A was scored on the suite {a} and B on {b}: there is nothing to compare.": "A 用评测集 {a} 评测，B 用 {b} 评测：无从比较。",
    "In units of 5% of A, of which a sample must move more to count as fixed or regressed; where A "
    "is 0 any change is beyond the scale. Bars are 95% intervals of the paired change. Unclear: "
    "the interval holds 0.": "以 A 的 5% 为单位，样本变化超过它才算修好或退步；A 为 0 时任何变化都超出坐标范围。横条是配对变化的 95% 置信区间。“不明”表示区间含 0。",
    "No setting that was recorded differs; the models' bytes do.": "记录在案的设置都相同，不同的是模型本身。",
    "The bytes are the same, and so are all settings that were recorded.": "模型字节相同，记录在案的设置也都相同。",
    # Humans.
    "Elo points, the anchor at 1000": "Elo 分，基准为 1000",
    "Session": "评分会话",
    "So far there are only votes on known pairs, which say nothing of the models.": "目前只有对已知答案的投票，说明不了模型的好坏。",
    "{n} more on known or repeated pairs, left out here": "另有 {n} 票用于已知或重复的回答对，未计入",
    "{n} votes": "{n} 票",
    "{n} votes on {pairs} pairs": "{n} 票，{pairs} 对回答",
    "{what}: {said}": "{what}：{said}",
    # Samples.
    "Pairs that you gather here become the file of ratchet rate create --gold. A suite's samples are not for training: a model must not learn what it is tested on.": "在这里收集的配对可作为 ratchet rate create --gold 的文件。评测集的样本不能用于训练：模型不应学习用来测试它的内容。",
    "the models know different tokens: each was asked through its own template": "两个模型的词表不同：各自按自己的模板提问",
    "which tokens were asked isn't known of both runs, so that their templates may differ": "并非两次运行都记录了提问的词元，模板可能不同",
    "Which answer is better?": "哪个回答更好？",
    "Add to the known pairs": "加入已知答案对",
    "As a known pair for raters": "作为评价者的已知答案对",
    "Both say the same.": "双方回答相同。",
    "Sample": "样本",
    "Search": "搜索",
    "Slice": "切片",
    "an empty answer": "空回答",
    "what is scored of it:": "其中参与评分的部分：",
    "answer of B": "B 的回答",
    "kind": "类别",
    "next →": "下一个 →",
    "← previous": "← 上一个",
    "sample": "样本",
    "slice": "切片",
    # Trainings.
    "A lane is an attempt, and a dashed red line a roll back; what was abandoned is grey. A ring "
    "marks each best checkpoint. A click leads to the verdict.": "每条泳道是一次尝试，红色虚线是回退，灰色是已放弃的部分。圆环标出各个最佳检查点。点击可查看判定。",
    "Checkpoints": "检查点",
    "abandoned": "已放弃",
    "offered": "待批准",
    "step {n}": "第 {n} 步",
    "verdict of step {n} →": "第 {n} 步的判定 →",
    # Runs.
    "A note or a tag is written on the command line, or here with --actions:": "备注和标签在命令行填写；以 --actions 启动时也可在此填写：",
    "No run is left by these filters.": "没有符合筛选条件的运行。",
    "Note": "备注",
    "Save": "保存",
    "Side by side": "并列对比",
    "Tag": "标签",
    "Tags": "标签",
    "Tick runs to see them side by side, or one to note something beside it.": "勾选多次运行可并列对比，勾选一次可添加备注。",
    "Up to {n} runs stand side by side.": "最多可并列 {n} 次运行。",
    "What was tried, and what came of it?": "试过什么？结果如何？",
    "its samples →": "它的样本 →",
    "note": "备注",
    "setting": "设置",
    "tags": "标签",
    "the verdict on this run →": "对此运行的判定 →",
    # Promotions.
    "A click leads to the verdict that a version stands on.": "点击可查看该版本所依据的判定。",
    "Promotions": "批准历史",
    "Which version was served when, and on whose word?": "各版本何时上线？依据是什么？",
    "the verdict that v{n} stands on →": "v{n} 所依据的判定 →",
    "version": "版本",
    # Verdicts and drift.
    "length in characters": "长度（字符数）",
    "look {j} of {looks}": "第 {j}/{looks} 次检验",
}
