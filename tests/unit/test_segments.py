"""The counter of TCP segments: what is data, what an acknowledgement, and when the direction changed."""

from bench.cluster.segments import Count


def test_ping_pong_crosses_once_per_transfer() -> None:
    count = Count()
    for _ in range(5):
        count.segment("out", 56)
        count.segment("in", 0)
        count.segment("in", 56)
    assert (count.out_segments, count.in_segments, count.in_acks, count.out_acks) == (5, 5, 5, 0)
    assert (count.out_bytes, count.in_bytes) == (280, 280)
    assert count.flights == 10


def test_rendezvous_crosses_three_times() -> None:
    count = Count()
    for sender, receiver in (("out", "in"), ("in", "out")) * 4:
        count.segment(sender, 80)  # may I?
        count.segment(receiver, 40)  # yes
        count.segment(sender, 1448)
        count.segment(sender, 1448)
    assert count.flights == 3 * 8
    assert count.out_segments + count.in_segments == 4 * 8
