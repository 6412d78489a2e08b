"""The page of served lines in Chinese, by the English sentence."""

# ruff: noqa: E501

from __future__ import annotations

from dashboard.i18n.zh_reasons import chinese

WATCH: dict[str, str] = {
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
    "{n} looks": "{n} 次检验",
    "A canary runs: {digest} has {share} of the traffic.": "金丝雀发布进行中：{digest} 承担 {share} 的流量。",
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
}


def reason(text: str, language: str) -> str:
    """A reason of the watch, stored in English, in the reader's language."""
    return chinese(text) if language == "zh" else text
