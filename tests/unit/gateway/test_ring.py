from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.live.ring import Discontinuous, Ring

FRAMES = st.lists(st.one_of(st.binary(min_size=1, max_size=20), st.none()), max_size=60)


def filled(frames: list[bytes | None], first: int, *, events: int, size: int) -> Ring:
    ring = Ring(events, size)
    ring.begin(first)
    for offset, frame in enumerate(frames, first):
        ring.append(offset, frame)
    return ring


@settings(max_examples=400)
@given(
    frames=FRAMES,
    first=st.integers(0, 1000),
    events=st.sampled_from([5, 1000, 1, 40]),
    size=st.sampled_from([10_000, 400, 50, 1]),
    back=st.integers(-2, 30),
    piece=st.sampled_from([0, 15, 60, 1]),
)
def test_what_is_given_back_is_exactly_what_came_after(
    frames: list[bytes | None], first: int, events: int, size: int, back: int, piece: int
) -> None:
    """Nothing missing, nothing twice, whatever the bounds. Seen red with a start one too early, and with a piece that may be empty."""
    ring = filled(frames, first, events=events, size=size)
    since = ring.last - back
    found = ring.since(since, max_bytes=piece)
    if since < ring.first - 1 or since > ring.last:
        assert found is None
        return
    got, at = [], since
    while True:
        one = ring.since(at, max_bytes=piece)
        assert one is not None
        got += one.frames
        if one.upto == at:
            break
        assert one.upto > at
        at = one.upto
    assert at == ring.last
    assert got == [frame for offset, frame in enumerate(frames, first) if offset > since and frame is not None]


@given(frames=FRAMES, events=st.integers(1, 40), size=st.integers(1, 400))
def test_it_never_holds_more_than_it_may(frames: list[bytes | None], events: int, size: int) -> None:
    ring = filled(frames, 0, events=events, size=size)
    assert len(ring) <= events
    assert ring.size <= size
    assert ring.last == len(frames) - 1


def test_a_hole_is_refused() -> None:
    ring = filled([b"a", b"b"], 7, events=10, size=100)
    for offset in (7, 8, 10):
        try:
            ring.append(offset, b"c")
        except Discontinuous:
            continue
        raise AssertionError(offset)
    ring.append(9, b"c")
    assert ring.last == 9
