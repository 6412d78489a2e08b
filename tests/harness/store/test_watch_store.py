"""The table of observations keeps one row of each id, though it has no index."""

import duckdb

from harness.core.workspace import Workspace
from harness.store.store import Store
from harness.store.tables import VERSION

OLD = (
    "CREATE TABLE observations (observation_id VARCHAR NOT NULL, line VARCHAR, "
    "model_digest VARCHAR, conversation_id VARCHAR, prompt VARCHAR, response VARCHAR, "
    "latency_s DOUBLE, input_tokens BIGINT, output_tokens BIGINT, error VARCHAR, stars DOUBLE, "
    "thumb INTEGER, comment VARCHAR, outcome VARCHAR, corrected_text VARCHAR, detail JSON, "
    "observed_at TIMESTAMP, received_at TIMESTAMP, seq BIGINT NOT NULL, "
    "PRIMARY KEY (observation_id))"
)


def rows(*ids, **fields):
    return [{"observation_id": name, **fields} for name in ids]


def kept(store):
    return {
        row["observation_id"]: row["line"]
        for row in store.query("SELECT observation_id, line FROM observations ORDER BY seq")
    }


def test_the_first_row_of_an_id_counts_within_a_batch_and_over_batches_and_journals(tmp_path):
    workspace = Workspace.at(tmp_path)
    with Store(workspace) as store, Store(workspace) as other:
        store.append("observations", [*rows("a", "b", line="one"), *rows("a", line="two")])
        store.drain()
        store.append("observations", rows("b", "c", line="three"))
        other.append("observations", rows("c", "d", line="four"))
        found = kept(store)
        assert store.query("SELECT count(*) AS n FROM observations") == [{"n": 4}]
    assert found == {"a": "one", "b": "one", "c": found["c"], "d": "four"}


def test_an_older_store_keeps_its_observations(tmp_path):
    workspace = Workspace.at(tmp_path)
    with Store(workspace) as store:
        store.drain()
    with duckdb.connect(str(workspace.database)) as connection:
        connection.execute("DROP TABLE observations")
        connection.execute(OLD)
        connection.execute("INSERT INTO observations (observation_id, line, seq) "
                           "VALUES ('old', 'support', 1)")  # fmt: skip
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES (4, now()::TIMESTAMP)")
    with Store(workspace) as store:
        store.append("observations", rows("old", "new", line="later", about="old"))
        assert kept(store) == {"old": "support", "new": "later"}
        assert store.query("SELECT max(version) AS v FROM schema_version") == [{"v": VERSION}]
