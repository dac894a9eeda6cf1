"""One clock per bag: what is shifted, what is split, what is refused. Times only, no messages."""

from collections.abc import Sequence

import numpy as np
import pytest

from vla_ros.bags.clock import ClockSegment, TopicTimes, decide_clock, order_to_read
from vla_ros.data_types import DatasetError

S, MS = 1_000_000_000, 1_000_000
BEGIN = 1_700_000_000 * S
LIMIT = 50 * MS


def times(
    topic: str,
    *,
    n: int = 200,
    period_ms: float = 20.0,
    delay_ms: float | Sequence[float] = 1.0,
    header_ms: dict[int, float] | None = None,
    receive_ms: dict[int, float] | None = None,
    has_header: bool = True,
) -> TopicTimes:
    """A topic whose clocks are moved by so much from a message on."""
    true = BEGIN + (np.arange(n) * period_ms * MS).astype(np.int64)
    header, receive = true.copy(), true + (np.broadcast_to(delay_ms, n) * MS).astype(np.int64)
    for array, moves in ((header, header_ms or {}), (receive, receive_ms or {})):
        for index, move_ms in moves.items():
            array[index:] += round(move_ms * MS)
    ordinals = np.arange(n) * 100 + sum(topic.encode()) % 100
    return TopicTimes(topic, ordinals.astype(np.int64), receive, header if has_header else None)


def decide(*topics: TopicTimes, mode: str = "auto") -> list[ClockSegment]:
    return decide_clock(topics, mode, LIMIT, "the bag")  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [-3600.0, -1.2, 1.2, 12.0, 1e9])
def test_clocks_that_all_differ_by_the_same_are_one_clock_shifted(seconds: float) -> None:
    (only,) = decide(times("/a", delay_ms=1000 * seconds + 2), times("/b", delay_ms=1000 * seconds + 20))
    assert only.offset_ns == pytest.approx(seconds * S + 2 * MS, abs=200)


@pytest.mark.parametrize("seed", range(8))
def test_transport_delays_are_no_difference_of_clocks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    late = times("/b", n=2000, delay_ms=1 + rng.gamma(1.0, 60.0, 2000))
    assert late.header_ns is not None
    arrived = np.argsort(late.receive_ns, kind="stable")  # later ones overtake
    late = TopicTimes("/b", late.ordinals, late.receive_ns[arrived], late.header_ns[arrived])
    (only,) = decide(times("/a", n=2000, delay_ms=1.0), late)
    assert only.offset_ns == 0


@pytest.mark.parametrize("off_ms", [-900.0, 70.0, 1200.0, 1e9])
def test_topics_that_disagree_are_refused_with_the_offset_of_each(off_ms: float) -> None:
    topics = times("/a", delay_ms=1.0), times("/b", delay_ms=1.0), times("/camera", delay_ms=off_ms)
    with pytest.raises(
        DatasetError, match=rf"/a 0\.001 s.*/camera {off_ms / 1000:.3f} s|/camera {off_ms / 1000:.3f} s.*/a"
    ):
        decide(*topics)
    assert [segment.offset_ns for segment in decide(*topics, mode="receive")] == [0]
    assert len(decide(*topics, mode="header")) == 1


def test_a_topic_without_stamps_lives_on_the_recorder_s_clock() -> None:
    (only,) = decide(times("/a", delay_ms=5_002.0), times("/twist", has_header=False))
    assert only.offset_ns == 5_002 * MS
    assert "/twist" not in only.offsets_s


@pytest.mark.parametrize("step_ms", [-600_000.0, -1000.0, -80.0, 80.0, 1000.0, 600_000.0])
def test_a_step_of_the_stamps_splits_there(step_ms: float) -> None:
    moved = {100: step_ms}
    first, second = decide(times("/a", header_ms=moved), times("/b", period_ms=20, delay_ms=9.0, header_ms=moved))
    assert first.ranges == {"/a": (0, 100), "/b": (0, 100)}
    assert second.ranges == {"/a": (100, 200), "/b": (100, 200)}
    direction = "back" if step_ms < 0 else "forward"
    assert f"header stamps step {direction} by {abs(step_ms) / 1000:.3f} s" in second.begins


def test_a_step_of_one_topic_s_stamps_makes_it_disagree_from_there_on() -> None:
    first, second = decide(times("/a"), times("/camera", header_ms={100: -400.0}))
    assert first.refused == ""
    assert first.ranges["/camera"] == (0, 100)
    assert "clocks of its topics differ" in second.refused
    assert "/camera 0.401 s" in second.refused


def test_drivers_on_one_topic_have_clocks_of_their_own() -> None:
    topic, other = times("/joints"), times("/joints (b)", delay_ms=300.0)
    both = TopicTimes("/joints", topic.ordinals, topic.receive_ns, topic.header_ns, (times("/joints (a)"), other))
    with pytest.raises(DatasetError, match=r"/joints \(a\) 0\.001 s, .*/joints \(b\) 0\.300 s"):
        decide(both, times("/a"))
    stepping = times("/joints (b)", header_ms={120: -1000.0})
    both = TopicTimes("/joints", topic.ordinals, topic.receive_ns, topic.header_ns, (times("/joints (a)"), stepping))
    first, second = decide(both, times("/a"))
    assert first.ranges["/joints"][1] == pytest.approx(120, abs=1)
    assert "/joints (b) 1.001 s" in second.refused


@pytest.mark.parametrize("back_ms", [-60.0, -1000.0, -3_600_000.0])
def test_a_computer_s_clock_that_is_set_back_splits_there(back_ms: float) -> None:
    moved = {100: back_ms}
    parts = decide(times("/a", header_ms=moved, receive_ms=moved), times("/b", header_ms=moved, receive_ms=moved))
    assert [part.ranges["/a"] for part in parts] == [(0, 100), (100, 200)]
    assert "recorder's clock steps back" in parts[1].begins


def test_a_computer_s_clock_that_is_set_forward_by_years_splits_there() -> None:
    moved = {7: 53 * 365 * 86400 * 1000.0}
    parts = decide(times("/a", header_ms=moved, receive_ms=moved), times("/b", header_ms=moved, receive_ms=moved))
    assert [part.ranges["/b"] for part in parts] == [(0, 7), (7, 200)]
    assert "jumps forward" in parts[1].begins


def test_a_recorder_s_clock_that_leaps_alone_matters_to_topics_without_stamps() -> None:
    for leap_ms, parts_of_stamped in ((300.0, 1), (2000.0, 2)):  # a small one may be load, and stamps are right
        leap = {100: leap_ms}
        stamped = times("/a", receive_ms=leap), times("/b", receive_ms=leap)
        assert len(decide(*stamped)) == parts_of_stamped
    parts = decide(*stamped, times("/twist", has_header=False, receive_ms=leap))
    assert [part.ranges["/twist"] for part in parts] == [(0, 100), (100, 200)]
    assert parts[1].offset_ns - parts[0].offset_ns == pytest.approx(2000 * MS, abs=MS + LIMIT)


def test_a_recorder_that_stalls_is_no_step() -> None:
    delays = np.full(200, 1.0)
    delays[100:130] = np.maximum(1.0, 600.0 - 20.0 * np.arange(30))  # what queued up comes at once
    (only,) = decide(times("/a", delay_ms=delays), times("/b", delay_ms=delays), times("/twist", has_header=False))
    assert only.offset_ns == 0


def test_single_wrong_stamps_are_no_step() -> None:
    topic = times("/a")
    assert topic.header_ns is not None
    topic.header_ns[[20, 77, 140]] += np.array([5 * S, -3 * S, 7000 * S])
    assert len(decide(topic, times("/b"))) == 1


def test_clocks_of_another_speed_are_refused_where_stamps_are_missing() -> None:
    drifting = times("/a", delay_ms=np.linspace(0.0, 400.0, 200))
    assert len(decide(drifting, times("/b", delay_ms=np.linspace(0.0, 400.0, 200)))) == 1
    with pytest.raises(DatasetError, match=r"run at different speeds.*/twist 0\.000 s, /a 0\.\d+ s"):
        decide(drifting, times("/twist", has_header=False))


def test_a_clock_that_runs_away_from_the_others_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"run at different speeds.*/b 0\.000 s, /camera 0\.3\d+ s"):
        decide(times("/b"), times("/camera", delay_ms=np.linspace(0.0, 400.0, 200)))


def test_messages_without_a_stamp_are_left_aside() -> None:
    topic = times("/a", delay_ms=1300.0)
    assert topic.header_ns is not None
    topic.header_ns[:50] = 0
    (only,) = decide(topic, times("/b", delay_ms=1300.0))
    assert only.offset_ns == 1300 * MS


def test_a_bag_is_read_in_its_order_unless_topics_were_written_one_after_the_other() -> None:
    set_back = times("/a", receive_ms={100: -1000.0})
    assert order_to_read([set_back, times("/b", receive_ms={100: -1000.0})]) == "file"
    first, second = times("/a"), times("/b")
    behind = TopicTimes("/b", second.ordinals + 1_000_000, second.receive_ns, second.header_ns)
    assert order_to_read([first, second]) == "file"
    assert order_to_read([first, behind]) == "time"
