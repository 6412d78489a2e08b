"""The page of served lines in Chinese, by the English sentence."""

# ruff: noqa: E501

from __future__ import annotations

from harness.report.zh_reasons import chinese

WATCH: dict[str, str] = {
    "What users rated low or corrected becomes new data, once somebody reviewed it:": "用户给出低分或改写过的回答，经人工审核后可成为新数据：",
    "Answers that tripped it": "触发告警的回答",
    "Copy the report": "复制报告",
    "Each point is an hour of {n}, in UTC; the red line is where it fails, a red rule an alarm, a grey one a promotion. The arrow shows which way is good.": "每个点是 {n} 小时中的一小时（UTC）；红色横线是未通过界限，红色竖线是告警，灰色竖线是批准。箭头指向好的方向。",
    "Every look": "每次检验",
    "No single answer can be named for this signal.": "这个信号无法指出单个回答。",
    "Nothing was observed in these {n} hours.": "这 {n} 小时内没有观测数据。",
    "Nothing.": "没有。",
    "Runbook": "处置手册",
    "Signals by the hour": "各信号逐小时",
    "There is no look {id} on this line.": "这条发布线没有检验 {id}。",
    "What failed, with the numbers at the alarm": "未通过的信号（告警时的数值）",
    "What to do": "怎么办",
    "alarm": "告警",
    "done": "已执行",
    "dry run: nothing was changed": "演练：没有任何改动",
    "held": "未能处置",
    "nothing could be done": "无法处置",
    "since then": "此后",
    "the bytes of v{n}": "与 v{n} 字节相同",
    "1 look": "1 次检验",
    "{n} looks": "{n} 次检验",
    "Does what is served keep what the gate promised?": "线上模型是否兑现了闸门的承诺？",
    "Nobody has looked yet.": "还没有检查过。",
    "Nothing is served yet that could be watched.": "还没有上线的模型可供监控。",
    "Taken back": "已撤回",
    "Watch": "监控",
    "What was done": "已采取的措施",
    "breaker": "熔断",
    "business": "业务",
    "by": "操作者",
    "canary": "金丝雀",
    "conversations": "会话数",
    "dry run": "演练",
    "fails at": "未通过界限",
    "from": "原版本",
    "held to": "对照",
    "hour": "小时",
    "interval": "区间",
    "passes at": "通过界限",
    "policy": "策略",
    "quality": "质量",
    "ramped": "放量",
    "service": "服务",
    "signal": "信号",
    "tier": "层级",
    "to": "新版本",
    "watch": "监控",
    "what": "措施",
    "why": "原因",
    "yes": "已执行",
    "{n} observations": "{n} 条观测",
    # The runbook.
    "Requests end in errors. Nearly always the server: out of memory, a wrong template, a time limit. Read the answers that tripped it: the error says which. A roll back helps only where the new model is what the server can't load or answers too long.": "请求失败。几乎总是服务器的问题：内存不足、模板错误、超时。请看触发告警的回答：错误信息会说明是哪一种。只有新模型无法被服务器加载或回答过长时，回退才有用。",
    "The circuit breaker: at least half of the requests of a minute failed. As errors, and at once. It speaks once an hour while it lasts, and is over when a look an hour later finds it so.": "熔断：一分钟内至少一半的请求失败。处置同 errors，且要立即。持续期间每小时告警一次；一小时后的检验确认恢复，即告结束。",
    "Answers are slower than the reference's. Load and neighbors on the machine move them as much as the model: begin with the requests, then see the length of answers.": "回答比参照慢。机器负载和同机的其他任务的影响不亚于模型：先看请求，再看回答长度。",
    "Answers come slower per token: another dtype, another card, or no batching. Rarely the weights.": "每个词元更慢：换了精度、换了显卡或没有批处理。很少是权重的问题。",
    "Conversations are given up. Read them. A model that asks back, refuses or loops shows here first.": "会话被放弃。请读这些会话。反问、拒答或循环的模型最先在这里露出问题。",
    "Stars and thumbs fell. Few users give any, and they are not all users: mind n, and what else moved.": "评分和点赞下降。给出评价的用户很少，不代表全部用户：请看 n，以及还有什么在变。",
    "Users change answers. Their texts are training data: ratchet watch harvest.": "用户在改写回答。他们的文本就是训练数据，可用监控采集：ratchet watch harvest。",
    "Users ask again. Read question and answer side by side: wrong language, wrong format, or beside the point.": "用户重新提问。请对照阅读问与答：语言不对、格式不对，或答非所问。",
    "The classifier reads English unless the policy names another. Read before you act: it is wrong on quotes.": "除非策略另有指定，分类器只读英文。先读再处置：遇到引文它会误判。",
    "Words of the lists. A new campaign or a product's name may be the reason, and not the model.": "命中词表。原因可能是新的活动或产品名，而不是模型。",
    "It declines more often. A system prompt that changed does the same as a model that did.": "拒答增多。系统提示词改动与模型改动的表现相同。",
    "It answers in another script than it was asked in. Often the chat template, or a prompt in two languages.": "回答的文字与提问不同。常见原因是对话模板，或提示词里有两种语言。",
    "Answers became longer or shorter: the end token, the time limit, or the style of the training data.": "回答变长或变短：结束符、超时，或训练数据的文风。",
    "Answers are no longer one JSON object. Whoever reads them by program is broken now: roll back first.": "回答不再是一个 JSON 对象。用程序读取它的下游现在已经出错：先回退。",
    "Answers mean something else than the reference's. New topics move it as well as a new model.": "回答的含义与参照不同。新话题和新模型都会引起变化。",
    "The judge likes the answers less. Make sure that the judge is still the same one.": "裁判对回答的评价变低。请确认裁判仍是同一个。",
}


def reason(text: str, language: str) -> str:
    """A reason of the watch, stored in English, in the reader's language."""
    return chinese(text) if language == "zh" else text
