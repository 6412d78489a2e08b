"""Many raters at once on one server: no vote is lost or doubled."""

from tests.benchmarks.bench_rating import RATERS, load


def test_twenty_raters_on_a_server_of_their_own(tmp_path):
    assert len(load(tmp_path, turns=3, per_second=20.0)) == 3 * RATERS
