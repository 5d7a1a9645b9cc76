"""Places: never more than there are, none lost, nobody forgotten."""

from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from services.checker.gate import Gate


def let_in(gate: Gate[int]) -> list[tuple[str, int]]:
    entered = []
    while (one := gate.next()) is not None:
        entered.append(one)
    return entered


@given(
    total=st.integers(min_value=1, max_value=6),
    per_host=st.integers(min_value=1, max_value=4),
    steps=st.lists(st.one_of(st.sampled_from(["a", "b", "c", ""]), st.integers(min_value=0, max_value=9)), max_size=80),
)
def test_bounds_hold_and_everybody_gets_in(total: int, per_host: int, steps: list[str | int]) -> None:
    """A word enters with that host, a number lets somebody leave. Seen red with a host's waiter left behind when another leaves."""
    gate: Gate[int] = Gate(total=total, per_host=per_host)
    inside: deque[tuple[str, int]] = deque()
    came: list[tuple[str, int]] = []
    done: list[tuple[str, int]] = []

    def leave(place: int) -> None:
        inside.rotate(-place)
        host, number = inside.popleft()
        done.append((host, number))
        gate.leave(host)
        inside.extend(let_in(gate))

    for step in steps:
        if isinstance(step, str):
            came.append((step, len(came)))
            if gate.enter(*came[-1]):
                inside.append(came[-1])
        elif inside:
            leave(step % len(inside))
        counts = Counter(host for host, _ in inside)
        waiting = Counter(host for host, _ in came) - Counter(host for host, _ in done) - counts
        assert len(inside) <= total
        assert all(number <= per_host for host, number in counts.items() if host)
        # A free place and somebody whom only it keeps waiting do not go together.
        assert len(inside) == total or all(host and counts[host] == per_host for host in waiting)
    while inside:
        leave(0)
    assert sorted(done) == sorted(came)


def test_those_of_one_host_wait_in_the_order_in_which_they_came() -> None:
    gate: Gate[int] = Gate(total=10, per_host=1)
    assert gate.enter("a", 0)
    assert not any(gate.enter("a", number) for number in (1, 2, 3))
    order = []
    for _ in range(3):
        gate.leave("a")
        order += let_in(gate)
    assert order == [("a", 1), ("a", 2), ("a", 3)]
