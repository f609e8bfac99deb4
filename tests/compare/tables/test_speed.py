"""How fast methods train."""

from runs_by_hand import texts

from solo_frossl.compare import tables


def test_throughput_is_compared_with_the_slowest(groups):
    table = tables.speed_table(groups)
    assert table.columns == ("method", "images/s", "of the slowest", "device-seconds an epoch")
    assert texts(table) == {"FroSSL": ["2 ± 0", "1.00", "30.0 ± 0.0"], "Barlow Twins": ["6", "3.00", "10.0"]}
