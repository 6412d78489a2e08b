"""The load that the benchmark measures, shortly and without a clock: nothing lost or doubled."""

from tests.benchmarks.bench_rating import load


def test_twenty_raters_on_a_server_of_their_own(tmp_path):
    assert len(load(tmp_path, seconds=3.0, per_second=20.0)) >= 40
