"""An append-only journal and DuckDB: everything measured is written and read here."""
