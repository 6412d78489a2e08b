"""Groups observations into conversations, each with its value of every signal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.store.store import Store
from harness.watch.monitor.policy import WatchPolicy
from harness.watch.monitor.reference import Reference
from harness.watch.monitor.signals import BY_NAME, Signal, measured
from harness.watch.monitor.text import Text

if TYPE_CHECKING:
    import pyarrow

Array = npt.NDArray[np.float64]
References = Mapping[str, Reference]

AT_ONCE = 50_000
"""Observations that are read together, so that any backlog fits in memory."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose observations: a checkpoint's on a line.

    An observation that names no model is counted as the checkpoint's where it was received while
    that was promoted: from `since`, and before `until`.
    """

    line: str
    digest: str
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Units:
    """Conversations in the order in which their first observations were taken in.

    They are the units of all statistics: answers of one conversation resemble each other, and a
    test that took them for independent would give far too many false alarms.

    seq, at_s     (n,) of the first observation: its number, and its moment in seconds since 1970
    values        per signal (n,), in [0, 1]; NaN where the conversation has no value of it
    observations  that were read for them
    late          that came after their conversation was settled
    """

    seq: npt.NDArray[np.int64]
    at_s: Array
    values: Mapping[str, Array]
    observations: int
    late: int

    def __len__(self) -> int:
        return len(self.seq)


# $1 line, $2 digest, $3 since, $4 until, $5 cursor, $6 up to, $7 settling seconds.
_SCOPED = """
scoped AS (
    SELECT *, coalesce(received_at, observed_at) AS came,
        coalesce(least(observed_at, received_at), TIMESTAMP '2020-01-01') AS moment
    FROM observations
    WHERE (line = $1 OR line IS NULL) AND (
        model_digest = $2 OR (
            model_digest IS NULL AND line = $1
            AND coalesce(received_at, observed_at) >= $3::TIMESTAMP
            AND coalesce($4::TIMESTAMP > coalesce(received_at, observed_at), true)))
)"""
# Of each conversation, the rows that count:
#   fresh    what came after the cursor; feedback joins the conversation of what it is about, and
#            is left out where that isn't there
#   rows     each with its conversation; an observation that names none is a conversation alone
#   begun    those whose first fresh row lies in this lot
#   counted  those of them that began before the cursor: an earlier lot had them
#   units    the others, numbered from 0
#   within   their rows, as far as they came before the conversation was settled
_FIRSTS = f"""
WITH {_SCOPED},
fresh AS (
    SELECT s.*, coalesce(s.conversation_id, p.conversation_id) AS talk,
        coalesce(p.observation_id, s.observation_id) AS alone
    FROM (SELECT * FROM scoped WHERE seq > $5) s
    LEFT JOIN scoped p ON p.observation_id = coalesce(s.about, s.retry_of)
    WHERE s.about IS NULL OR p.observation_id IS NOT NULL
),
rows AS (
    SELECT *, CASE WHEN talk IS NULL THEN 'o:' || alone ELSE 'c:' || talk END AS unit FROM fresh
),
begun AS (
    SELECT unit, any_value(talk) AS talk, any_value(alone) AS alone, min(seq) AS first,
        arg_min(came, seq) AS came, arg_min(moment, seq) AS moment
    FROM rows GROUP BY unit HAVING min(seq) <= $6
),
counted AS (
    SELECT b.unit, min(e.came) AS came
    FROM begun b JOIN scoped e ON e.conversation_id = b.talk WHERE e.seq <= $5 GROUP BY b.unit
    UNION ALL
    SELECT b.unit, e.came FROM begun b JOIN scoped e ON e.observation_id = b.alone
    WHERE e.seq <= $5 AND b.talk IS NULL
),
units AS (
    SELECT b.*, row_number() OVER (ORDER BY first) - 1 AS unit_no
    FROM begun b WHERE unit NOT IN (SELECT unit FROM counted)
),
within AS (
    SELECT r.*, u.unit_no, u.first, u.moment AS begun_at
    FROM rows r JOIN units u USING (unit)
    WHERE r.came <= u.came + to_microseconds(($7 * 1000000)::BIGINT)
)"""


class Reader:
    """Reads the conversations of one scope from the store."""

    def __init__(self, store: Store, scope: Scope, policy: WatchPolicy) -> None:
        self._store = store
        self._scope = scope
        self._policy = policy

    def settled_until(self, now: datetime) -> int:
        """The `seq` up to which every conversation has settled by `now`; 0 where none has.

        Later rows may still belong to conversations that began there; they would count as late.
        """
        rows = self._ask(
            f"""WITH {_SCOPED}
            SELECT coalesce(
                min(seq) FILTER (came > $5::TIMESTAMP) - 1, max(seq), 0) AS upto
            FROM scoped""",
            now - timedelta(seconds=self._policy.settle_s),
        )
        return int(rows[0]["upto"])

    def chunks(self, cursor: int, upto: int) -> Iterator[int]:
        """The `seq` at the end of each lot of at most AT_ONCE observations, the last one `upto`."""
        while cursor < upto:
            rows = self._ask(
                f"""WITH {_SCOPED} SELECT max(seq) AS place FROM (
                    SELECT seq FROM scoped WHERE seq > $5 AND seq <= $6 ORDER BY seq LIMIT $7)""",
                cursor,
                upto,
                AT_ONCE,
            )
            if rows[0]["place"] is None:
                return
            cursor = int(rows[0]["place"])
            yield cursor

    def read(self, cursor: int, upto: int, references: References) -> Units:
        """The conversations that begin after `cursor`, up to `upto`.

        Inside and centred signals are measured from their reference, and left out where they have
        none.
        """
        watched = self._policy.watched()
        columns, named = [], []
        for name in watched:
            sql = _aggregate(BY_NAME[name], references.get(name))
            if sql is not None:
                columns.append(f'{sql} AS "{name}"')
                named.append(name)
        table = self._arrow(
            f"""{_FIRSTS}
            SELECT any_value(r.first) AS first, any_value(epoch(r.begun_at)) AS at_s,
                count(*) AS observations {"".join(f", {column}" for column in columns)}
            FROM within r GROUP BY r.unit_no ORDER BY r.unit_no""",
            cursor,
            upto,
        )
        seq = table["first"].to_numpy().astype(np.int64)
        values = {name: _floats(table[name]) for name in named}
        values |= self._measures(cursor, upto, len(seq), references)
        observations = int(table["observations"].to_numpy().sum())
        return Units(seq, _floats(table["at_s"]), values, observations, self._late(cursor, upto))

    def raw(self, name: str, cursor: int, upto: int) -> tuple[Array, npt.NDArray[np.intp]]:
        """Every number of an inside signal, and the conversation (0..) that each belongs to."""
        table = self._arrow(
            f"""{_FIRSTS}, numbers AS (
                SELECT r.unit_no, ({BY_NAME[name].inside})::DOUBLE AS number FROM within r)
            SELECT dense_rank() OVER (ORDER BY unit_no) - 1 AS unit_no, number
            FROM numbers WHERE number IS NOT NULL ORDER BY unit_no""",
            cursor,
            upto,
        )
        return _floats(table["number"]), table["unit_no"].to_numpy().astype(np.intp)

    def firsts(self, upto: int, *, last: int | None = None, limit: int | None = None) -> list[int]:
        """`seq` of conversations' first observations, oldest first: the `limit` first ones, or the
        `last` ones.
        """
        order, many = ("DESC", last) if last is not None else ("ASC", limit)
        rows = self._ask(
            f"{_FIRSTS} SELECT first FROM units ORDER BY first {order} LIMIT {int(many or 0)}",
            0,
            upto,
            0.0,
        )
        return sorted(int(row["first"]) for row in rows)

    def _late(self, cursor: int, upto: int) -> int:
        rows = self._ask(
            f"""{_FIRSTS}
            SELECT count(*) AS late FROM rows r
            JOIN (SELECT unit, came FROM units UNION ALL FROM counted) u USING (unit)
            WHERE r.seq <= $6 AND r.came > u.came + to_microseconds(($7 * 1000000)::BIGINT)""",
            cursor,
            upto,
            self._policy.settle_s,
        )
        return int(rows[0]["late"])

    def answers(self, name: str, cursor: int, upto: int) -> list[str]:
        """The answers that a signal is measured on, in the order of their conversations."""
        table = self._texts(cursor, upto, self._policy.share_of(name))
        texts = [Text.of(None, said) for said in table["response"].to_pylist()]
        return [text.response for text in texts if not text.unspoken]

    def _texts(self, cursor: int, upto: int, share: float) -> pyarrow.Table:
        """Questions and answers whose id's hash falls into the share.

        So it is the same ones at every look, and nothing about an answer decides whether it is in.
        """
        return self._arrow(
            f"""{_FIRSTS}
            SELECT unit_no, observation_id, prompt, response,
                md5_number_upper(observation_id) / 18446744073709551616.0 AS chance
            FROM within WHERE response IS NOT NULL AND error IS NULL AND about IS NULL
                AND chance < {share!r}
            ORDER BY unit_no, seq""",
            cursor,
            upto,
        )

    def _measures(
        self, cursor: int, upto: int, units: int, references: References
    ) -> dict[str, Array]:
        """Means per conversation of what is measured on questions and answers."""
        options = {
            name: o
            for name in self._policy.watched()
            if (o := self._options(BY_NAME[name], references.get(name))) is not None
        }
        if not options or not units:
            return {name: np.full(units, np.nan) for name in options}
        shares = {name: self._policy.share_of(name) for name in options}
        table = self._texts(cursor, upto, max(shares.values()))
        at, chance = table["unit_no"].to_numpy().astype(np.intp), _floats(table["chance"])
        ids, prompts = table["observation_id"].to_pylist(), table["prompt"].to_pylist()
        pairs = zip(prompts, table["response"].to_pylist(), strict=True)
        asked = [Text.of(prompt, answer) for prompt, answer in pairs]
        found = {}
        for name, said in options.items():
            chosen = np.flatnonzero(chance < shares[name])
            texts = [asked[i] for i in chosen]
            values = self._measured(BY_NAME[name], said, [ids[i] for i in chosen], texts)
            found[name] = _means(values, at[chosen], units)
        return found

    def _options(self, signal: Signal, reference: Reference | None) -> dict[str, Any] | None:
        """The options of a signal on texts; None for any other, or one that lacks its reference."""
        if signal.measure is None:
            return None
        options = dict(self._policy.of(signal.name).options)
        if not signal.centred:
            return options
        centre = reference.centre if reference is not None else None
        return None if centre is None else options | {"centre": centre}

    def _measured(
        self, signal: Signal, options: dict[str, Any], ids: list[str], texts: list[Text]
    ) -> Array:
        if not signal.kept:
            return _nans(measured(signal, texts, options))
        # What was kept of an answer with thoughts, before they were left out, is another number.
        plain = signal.signature(options)
        signatures = [f"{plain}|spoken" if text.thought else plain for text in texts]
        known = self._known(signal.name, dict(zip(ids, signatures, strict=True)))
        missing = [i for i, name in enumerate(ids) if name not in known]
        fresh = measured(signal, [texts[i] for i in missing], options) if missing else []
        self._store.append(
            "observation_signals",
            [
                {
                    "observation_id": ids[i],
                    "signal": signal.name,
                    "signature": signatures[i],
                    "value": value,
                }
                for i, value in zip(missing, fresh, strict=True)
            ],
        )
        known |= {ids[i]: value for i, value in zip(missing, fresh, strict=True)}
        return _nans([known[name] for name in ids])

    def _known(self, name: str, signatures: Mapping[str, str]) -> dict[str, float | None]:
        """The values that are kept of a signal: observation -> its value, by its signature."""
        if not signatures:
            return {}
        rows = self._store.query(
            """SELECT observation_id, signature, value FROM observation_signals
            WHERE signal = ? AND observation_id IN (SELECT unnest(?))""",
            [name, list(signatures)],
        )
        return {
            row["observation_id"]: row["value"]
            for row in rows
            if signatures[row["observation_id"]] == row["signature"]
        }

    def _parameters(self, *rest: Any) -> list[Any]:
        scope = self._scope
        return [scope.line, scope.digest, scope.since, scope.until, *rest]

    def _ask(self, sql: str, *rest: Any) -> list[dict[str, Any]]:
        return self._store.query(sql, self._parameters(*rest))

    def _arrow(self, sql: str, cursor: int, upto: int) -> pyarrow.Table:
        return self._store.query_arrow(sql, self._parameters(cursor, upto, self._policy.settle_s))


def _aggregate(signal: Signal, reference: Reference | None) -> str | None:
    """The SQL of a signal's value of one conversation; None where it can't be had in SQL (yet)."""
    if signal.inside is None or reference is None or reference.inside is None:
        return signal.sql
    low, high = reference.inside
    tests = [f"({signal.inside}) >= {low!r}"] if low is not None else []
    tests += [f"({signal.inside}) <= {high!r}"] if high is not None else []
    return f"avg(({' AND '.join(tests)})::DOUBLE)"


def _floats(column: Any) -> Array:
    return np.asarray(column.cast("double").to_numpy(zero_copy_only=False), dtype=float)


def _nans(values: list[float | None]) -> Array:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _means(values: Array, at: npt.NDArray[np.intp], units: int) -> Array:
    """Mean of what is known per unit, NaN where nothing is."""
    known = ~np.isnan(values)
    counts = np.bincount(at[known], minlength=units)
    sums = np.bincount(at[known], weights=values[known], minlength=units)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
