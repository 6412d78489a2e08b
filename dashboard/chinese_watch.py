"""The page of served lines in Chinese, by the English sentence."""

# ruff: noqa: E501

from __future__ import annotations

WATCH: dict[str, str] = {
    "95% latency, seconds": "95% 延迟（秒）",
    "A canary runs: {digest} has {share} of the traffic.": "金丝雀发布进行中：{digest} 承担 {share} 的流量。",
    "Bars are 95% confidence sequences, which may be looked at any time. The red mark is the limit: "
    "the reference's bound with the margin taken off.": "横条是 95% 置信序列，可随时查看。红色标记是界限：参照的置信界再扣除余量。",
    "Day, UTC": "日期（UTC）",
    "Does what is served keep what the gate promised?": "线上模型是否兑现了闸门的承诺？",
    "Nobody has looked yet.": "还没有检查过。",
    "Nothing is served yet that could be watched.": "还没有上线的模型可供监视。",
    "Nothing was observed yet.": "还没有观测数据。",
    "Signals": "信号",
    "Taken back": "已撤回",
    "Traffic": "流量",
    "Watch": "监视",
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
    "hour, UTC": "小时（UTC）",
    "interval": "区间",
    "passes at": "通过界限",
    "policy": "策略",
    "quality": "质量",
    "ramped": "放量",
    "requests per hour": "每小时请求数",
    "service": "服务",
    "share of errors": "错误比例",
    "signal": "信号",
    "tier": "层级",
    "to": "新版本",
    "watch": "监视",
    "what": "措施",
    "why": "原因",
    "yes": "已执行",
    "{n} observations": "{n} 条观测",
}
