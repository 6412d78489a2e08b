"""The page that says why a checkpoint got worse in Chinese, by the English sentence."""

# ruff: noqa: E501

from __future__ import annotations

WHY: dict[str, str] = {
    "Why": "原因",
    "why? →": "原因 →",
    "Where did it get worse, in which words, and what taught it?": "哪里变差了？差在哪些词？是哪些数据教的？",
    # Where.
    "Where it fell": "差在哪里",
    "No slice stands out.": "没有哪个切片明显更差。",
    "{metric}: {moved} on average over {n} samples.": "{metric}：{n} 个样本平均{moved}。",
    "{size} lost": "下降 {size}",
    "{size} gained": "上升 {size}",
    "nats": "奈特",
    "on these": "这些样本",
    "on the others": "其余样本",
    "p, over all slices": "p（已按所有切片校正）",
    " and ": " 且 ",
    "topic": "话题",
    "word": "词",
    "length in between": "长度居中",
    "length over {n} characters": "长度超过 {n} 个字符",
    "length up to {n} characters": "长度至多 {n} 个字符",
    # Kinds of mistakes.
    "What kind of mistakes": "哪类错误",
    "No rule finds a mistake in the answers of either model.": "按规则检查，两个模型的回答都没有错误。",
    "Of these kinds none became surely more or fewer.": "这些类别中没有哪一类确定增多或减少。",
    "task": "任务",
    "before → after": "之前 → 之后",
    "p, over all kinds": "p（已按所有类别校正）",
    "no answer: an error": "没有回答：出错",
    "nothing said": "什么也没说",
    "cut at the length limit": "因长度上限被截断",
    "refuses": "拒答",
    "repeats itself": "重复",
    "another language": "语言不对",
    "no JSON object": "不是 JSON 对象",
    "another number": "数字不对",
    "the field {name} is missing": "缺少字段 {name}",
    "the field {name} is wrong": "字段 {name} 有误",
    "the field {name} was not asked for": "多出字段 {name}",
    # Words.
    "Which words": "哪些词",
    "Which tokens became less likely is stored, but not what they say: the candidate's tokenizer isn't here any more, or never was.": "存储中记有哪些词元的概率下降，但没有它们的文字：候选的分词器已不在这里，或从未在这里。",
    "{task}: what the answers say that lost most": "{task}：退步最多的回答说了什么",
    "{task}: change of ln p(token) over {n} texts that should be likely, candidate − anchor, in nats": "{task}：{n} 段应当很可能出现的文本，ln p(词元) 的变化，候选 − 基准，单位奈特",
    "{word} {nats} in {n}": "{word} {nats}（{n} 段）",
    "no word stands out": "没有哪个词明显更差",
    "lost more than the others, on average": "比其他词下降更多（平均）",
    # Rows.
    "Which rows taught it": "哪些数据教的",
    "The verdict is on no checkpoint of a training: its rows aren't known.": "这个判定不是针对训练的检查点：不知道它学过哪些数据行。",
    "Nobody has asked yet; it takes the models and some minutes:": "还没有人查过；需要模型在场，并花几分钟：",
    "Of {asked} rows from step {begin} to {end} {harmful} raised the loss of the {samples} samples that lost most; these did most of the harm:": "第 {begin} 到 {end} 步的 {asked} 行数据中，有 {harmful} 行使退步最多的 {samples} 个样本损失上升；危害最大的是：",
    "Rows that the remedy left out:": "补救措施排除的数据行：",
    "harm": "危害",
    "row": "数据行",
    "what it teaches": "所教内容",
    "What of one question moved an answer is drawn on the command line:": "某个问题中的哪些词改变了回答，可在命令行画出：",
}
