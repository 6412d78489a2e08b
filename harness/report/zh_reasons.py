"""The watch's reasons in Chinese: the English ones are stored, and are read back by their form."""

# ruff: noqa: E501

from __future__ import annotations

import re

_D = r"([0-9a-f?]{1,12})"
_N = r"([\d,]+)"
_V = r"([-−\d.e+%,]+)"

_FORMS: tuple[tuple[str, str], ...] = (
    # One signal of a look.
    ("its reference is not complete yet", "参照数据尚不完整"),
    ("it has no reference", "没有参照"),
    (f"the reference has {_N} values of it, {_N} are needed", "参照中只有 {0} 个取值，需要 {1} 个"),
    (
        "the reference leaves nothing that could be worse by more than the margin",
        "参照已在极端，不可能再变差超过余量",
    ),
    (
        f"{_N} conversations are too few to know so far a quantile",
        "{0} 次会话太少，无法得知这样的分位数",
    ),
    ("shown to be within the margin", "已证实在余量之内"),
    (f"shown to be above {_V} on (.+?) UTC", "于 {1} UTC 证实高于 {0}"),
    (f"shown to be below {_V} on (.+?) UTC", "于 {1} UTC 证实低于 {0}"),
    (
        f"shown to be above {_V} on (.+?) UTC, at {_V} over {_N} conversations",
        "于 {1} UTC 证实高于 {0}，当时为 {2}，共 {3} 次会话",
    ),
    (
        f"shown to be below {_V} on (.+?) UTC, at {_V} over {_N} conversations",
        "于 {1} UTC 证实低于 {0}，当时为 {2}，共 {3} 次会话",
    ),
    (
        "no conversation of the current window or the one before has a value of it",
        "当前窗口和前一窗口的会话都没有该信号的取值",
    ),
    (
        f"with {_N} values the reference is too small to show a margin this narrow",
        "参照只有 {0} 个取值，不足以显示这么窄的余量",
    ),
    ("neither within nor beyond the margin is shown yet", "尚未证实在余量之内或之外"),
    # A canary.
    ("not seen in both arms yet", "两侧尚未都有数据"),
    (f"{_V} beside {_V}: within the margin", "{0}，对照为 {1}：在余量之内"),
    (f"{_V} beside {_V}: worse than the margin allows", "{0}，对照为 {1}：差于余量允许"),
    (
        f"{_V} beside {_V}: {_N} conversations can't tell yet",
        "{0}，对照为 {1}：{2} 次会话还不足以判断",
    ),
    (
        f"the candidate had {_N} of {_N} conversations where {_N} were meant: users are lost or sent elsewhere on the way, and who is left can't be compared",
        "候选得到 {1} 次会话中的 {0} 次，计划为 {2} 次：途中有用户流失或被分到别处，剩下的无法比较",
    ),
    (
        f"{_N} conversations were answered by both: split by conversation",
        "有 {0} 次会话由两侧共同回答：请按会话分流",
    ),
    ("not everything is shown yet", "尚未全部得到证实"),
    (f"{_D} gets {_V} of (.+)", "{0} 得到 {2} 的 {1} 流量"),
    (f"{_V} passed: {_V} from now on", "{0} 已通过：此后为 {1}"),
    (f"{_V} passed, the last step: promoted", "{0} 已通过，是最后一步：已批准"),
    ("as the split says", "与分流文件一致"),
    ("aborted", "已终止"),
    ("something else was promoted meanwhile", "其间批准了别的版本"),
    # The breaker.
    (
        f"{_N} of {_N} requests failed within {_V} s, and the breaker trips at {_V}",
        "{2} 秒内 {1} 个请求中有 {0} 个失败，熔断阈值为 {3}",
    ),
    # Why a line was left alone.
    ("nothing was ever promoted on (.+)", "{0} 从未批准过任何版本"),
    (f"{_D} is promoted by now, and {_D} was judged", "现在已批准的是 {0}，判定的是 {1}"),
    (f"{_D} was promoted again after this was decided", "{0} 在此判定之后再次获批准"),
    (
        f"{_D} was promoted again after it failed, and has not failed since",
        "{0} 未通过之后再次获批准，此后没有再失败",
    ),
    (f"{_D} has no version before it to go back to", "{0} 之前没有可以退回的版本"),
    (
        f"{_D} was itself restored within the last {_N} min: check the server and the requests before the model",
        "{0} 是最近 {1} 分钟内才恢复的：先检查服务器和请求，再怀疑模型",
    ),
    (
        "the verdict is (pass|inconclusive): there is nothing to roll back",
        "判定不是未通过：无需撤回",
    ),
    (f"and {_N} more", "另有 {0} 项"),
)

_KNOWN = tuple((re.compile(form), said) for form, said in _FORMS)
_TAGGED = re.compile(r"watch ([0-9a-zA-Z_-]+): (.*)", re.DOTALL)
_NAMED = re.compile(r"([a-z][a-z0-9_]*): (.+)", re.DOTALL)


def chinese(reason: str) -> str:
    """A stored reason in Chinese, clause by clause; what has no known form stays as it is."""
    tagged = _TAGGED.fullmatch(reason)
    if tagged:
        return f"监控 {tagged[1]}：{chinese(tagged[2])}"
    whole = _clause(reason)
    if whole is not None:
        return whole
    parts = reason.split("; ")
    said = [_named(part) for part in parts]
    # What people wrote stays as they wrote it.
    return reason if said == parts else "；".join(said)


def _named(part: str) -> str:
    found = _clause(part)
    if found is not None:
        return found
    named = _NAMED.fullmatch(part)
    said = _clause(named[2]) if named else None
    return f"{named[1]}：{said}" if named and said else part


def _clause(text: str) -> str | None:
    for form, said in _KNOWN:
        match = form.fullmatch(text)
        if match:
            return said.format(*match.groups())
    return None
