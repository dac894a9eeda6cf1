"""What an episode's begin leaves of a buffer."""

from vla_ros.resampling import SampleBuffer


def test_samples_at_or_after_the_stamp_stay() -> None:
    buffer = SampleBuffer(1_000)
    for stamp_ns in (10, 20, 30):
        buffer.push(stamp_ns, stamp_ns)
    buffer.discard_before(20)
    assert buffer.before(19) is None
    assert buffer.before(25) == (20, 20)
    assert buffer.newest_ns == 30
