"""A verdict in Chinese sentences, made from its rows, since the stored headline is English.

What the gate quotes from elsewhere (a waiver's reason, an error) stays in the words it came in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.core.format import number, share
from harness.core.types import VerdictOutcome
from harness.gate.explain import Stuck, lost_within, margin_of, p_value, stuck_by
from harness.gate.verdict import MetricVerdict, Verdict

_BEST_CHECKPOINT = re.compile(
    # `crest` is what the best checkpoint was called in older workspaces.
    r"significantly better than "
    r"(?:checkpoint-0|the crest of step (?P<crest>\d+)|the best so far, step (?P<step>\d+),) "
    r"on (?P<metric>.+?)(?P<confirmed>, confirmed on the reserve)?"
    r"(?P<counted>, the reserve counted in)?"
)

_STUCK: dict[Stuck, str] = {
    "limit": "再多同样的证据也无法证实满足要求",
    "single": "只有一个独立样本，无从估计离散程度，至少需要两个",
    "zero": "余量是基准数值的一个比例，而基准为 0，因此只有变好才能通过，除非另设绝对允许量",
    "margin": "余量为 0 时只有变好才能通过",
}

FAIL, PASS = VerdictOutcome.FAIL, VerdictOutcome.PASS
INCOMPARABLE, INCONCLUSIVE = VerdictOutcome.INCOMPARABLE, VerdictOutcome.INCONCLUSIVE


def headline(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    deciding = [row for row in verdict.rows if row.binding]
    required = [row for row in deciding if row.required]
    if verdict.outcome is FAIL and verdict.failing():
        failed = sorted(verdict.failing(), key=lambda row: _or_one(row.decided.p_adjusted))
        more = f"同样未通过：{_names(failed[1:])}。" if len(failed) > 1 else ""
        return f"未通过：{why(failed[0])}{more}"
    if verdict.outcome is INCOMPARABLE:
        first = next((row for row in deciding if row.outcome is INCOMPARABLE), None)
        return f"不可比较：{why(first)}" if first else f"不可比较：{verdict.headline}"
    if verdict.outcome is PASS:
        wide = [row for row in required if row.allowed.widened]
        widest = max(wide, key=lambda row: row.allowed.pass_margin or 0, default=None)
        at = f"（{share(widest.allowed.pass_margin or 0)}）" if widest else ""
        note = why(widest) if widest else ""
        return f"通过{at}：{len(required)} 项必需检查全部在余量之内。{note}"
    open_rows = [row for row in required if row.outcome is not PASS]
    if not open_rows:
        return "尚无定论：没有必需的指标，因此无从通过。"
    most = max(open_rows, key=lambda row: _or_one(row.decided.p_within))
    many = len(required) > 1
    count = f"（{len(required)} 项必需检查中有 {len(open_rows)} 项未定）" if many else ""
    return f"尚无定论：{why(most)[:-1]}{count}。"


def why(row: MetricVerdict) -> str:
    """One sentence: what decided this row."""
    decided = row.decided
    if row.outcome is INCOMPARABLE:
        return f"{row.name} 无法比较：{decided.reason}。"
    if decided.arm == "lost":
        return f"{row.name} 无法判定：{decided.reason}。"
    if row.allowed.requirement is not None:
        return _why_required(row)
    fact = f"{row.name} {_moved(row)}（{evidence(row)}）"
    margin = margin_of(row).replace(" and ", " 加 ")
    if row.waived:
        return f"{fact}；已豁免：{decided.reason}。"
    if decided.arm == "strict":
        return f"{fact}：超出允许的 {margin}（{_p(row)}）。"
    if decided.arm == "drop":
        return f"{fact}：已证实变差（{_p(row)}），且最佳估计超出允许的 {margin}。"
    if decided.arm == "point":
        beyond = "超出" if row.outcome is FAIL else "未超出"
        return f"{fact}：仅比较均值，{beyond}允许的 {margin}。"
    if decided.arm == "earlier":
        return f"{fact}；在较早的一次检验中已通过。"
    if row.outcome is PASS:
        return f"{fact}：证实在 {_margin_pass(row)} 之内。"
    return f"{fact}：既未证实超出 {margin}，也未证实在其内。"


def settle(verdict: Verdict) -> str:
    """What would settle an inconclusive verdict; empty where it is settled."""
    if verdict.outcome is not INCONCLUSIVE or not verdict.settle:
        return ""
    rows = [
        row
        for row in verdict.rows
        if row.required and row.outcome is INCONCLUSIVE and not row.waived
    ]
    if not rows:
        return "请至少将一个指标设为必需。"
    said = [] if verdict.last_look else ["下一次检验会补充证据。"]
    lost = [row.name for row in rows if row.decided.arm == "lost"]
    if lost:
        said.append(f"请重新评测：{_names(lost[:3])} 缺失的部分会再试一次。")
    rows = [row for row in rows if row.decided.arm != "lost"][:3]
    needs = [
        f"{row.name} 约 {row.decided.needed:,} {'个回答' if row.allowed.requirement else '个样本'}"
        for row in rows
        if row.decided.needed and not row.enough
    ]
    if needs:
        said.append(f"若实际没有变化，通过需要：{'；'.join(needs)}。")
    enough = [row for row in rows if row.enough]
    lost_some = [row.name for row in enough if lost_within(row)]
    if lost_some:
        said.append(
            f"{_names(lost_some)} 的样本已足够：这种结果说明很可能确有下降，只是小于允许余量。"
            "请决定接受还是拒绝，再加样本也难有结论。"
        )
    others = [row.name for row in enough if not lost_within(row)]
    if others:
        said.append(f"{_names(others)} 的样本已足够让没有变化的模型通过：很可能确有下降。")
    for cause, words in _STUCK.items():
        stuck = [row.name for row in rows if stuck_by(row) == cause]
        if stuck:
            said.append(f"{words}：{_names(stuck)}。")
    return "".join(said)


def best_checkpoint(why: str) -> str:
    """Why a checkpoint became the best checkpoint of its training; other words stay as they are."""
    found = _BEST_CHECKPOINT.fullmatch(why)
    if found is None:
        return why
    step = found["step"] or found["crest"]
    than = f"此前最佳的第 {step} 步" if step else " checkpoint-0"
    # Before the reserve was counted in, it had to confirm the claim by itself.
    confirmed = "，已在预留样本上证实" if found["confirmed"] else ""
    confirmed += "（含预留样本）" if found["counted"] else ""
    metrics = found["metric"].replace(" and ", " 和 ")
    return f"{metrics} 显著优于{than}{confirmed}"


def sentences(verdict: Verdict) -> list[str]:
    """The headline first, then what else must be known, then what would settle it."""
    reasons = [reason for reason in verdict.reasons if reason not in verdict.headline]
    return [text for text in (headline(verdict), *reasons, settle(verdict)) if text]


def evidence(row: MetricVerdict) -> str:
    """`60 个样本`, `60 个簇中的 600 个样本`."""
    n, clusters = row.measured.n, row.measured.clusters
    if row.allowed.requirement is not None:
        return f"{n:,} 个回答"
    grouped = f"{clusters:,} 个簇中的 " if clusters not in (0, n) else ""
    return f"{grouped}{n:,} 个样本"


def _moved(row: MetricVerdict) -> str:
    found = row.measured
    if found.change is None:
        return f"为 {number(found.candidate)}"
    if abs(found.change) < 1e-12:
        return f"保持在 {number(found.candidate)}"
    verb = "升至" if found.change > 0 else "降至"
    return f"从 {number(found.anchor)} {verb} {number(found.candidate)}"


def _margin_pass(row: MetricVerdict) -> str:
    allowed = row.allowed
    if allowed.widened:
        narrow = share(allowed.margin or 0.0)
        return f"{share(allowed.pass_margin or 0.0)}（{evidence(row)}看不出 {narrow}）"
    return margin_of(row).replace(" and ", " 加 ")


def _why_required(row: MetricVerdict) -> str:
    sign = {"at least": "至少", "at most": "至多", "rate at most": "比例至多"}
    bound = f"{sign.get(row.allowed.requirement or '', '')} {number(row.allowed.limit)}"
    fact = f"{row.metric} 为 {number(row.measured.candidate)}（{evidence(row)}）"
    if row.outcome is FAIL:
        return f"{fact}：违反了“{bound}”的要求（{_p(row)}）。"
    if row.outcome is PASS:
        return f"{fact}：证实{bound}。"
    return f"{fact}：“{bound}”既未证实也未违反。"


def _p(row: MetricVerdict) -> str:
    return "p 未知" if row.decided.p_adjusted is None else p_value(row)


def _names(rows: Sequence[MetricVerdict | str]) -> str:
    return "、".join(row if isinstance(row, str) else row.name for row in rows)


def _or_one(p: float | None) -> float:
    return 1.0 if p is None else p
