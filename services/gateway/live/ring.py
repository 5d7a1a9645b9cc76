"""The newest events, ready to send, by offset: what a client that was away is given when it comes back."""

from dataclasses import dataclass, field

Frame = bytes
"""A WebSocket frame as it goes over the wire, the same bytes for every client."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some consecutive events: their frames, and the offset up to which they reach."""

    frames: list[Frame]
    upto: int


class Discontinuous(ValueError):  # noqa: N818  # names the fact
    """An offset does not follow the one before it: what lies between is missing here."""


@dataclass(slots=True)
class Ring:
    """Frames of consecutive offsets, oldest dropped first, bounded by count and by bytes.

    Each offset of the stream has a place, also one whose event is not shown to anybody (None): so arithmetic finds the place.
    """

    max_events: int
    max_bytes: int
    first: int = 0
    _frames: list[Frame | None] = field(default_factory=list)
    _dropped: int = 0
    _bytes: int = 0

    @property
    def last(self) -> int:
        """The newest offset held; `first - 1` when nothing is held."""
        return self.first + len(self) - 1

    def __len__(self) -> int:
        """How many offsets are held."""
        return len(self._frames) - self._dropped

    @property
    def size(self) -> int:
        """Bytes of all frames held."""
        return self._bytes

    def append(self, offset: int, frame: Frame | None) -> None:
        """Add the newest offset. Raises `Discontinuous` unless it follows the last one."""
        if offset != self.last + 1:
            msg = f"offset {offset} after {self.last}"
            raise Discontinuous(msg)
        self._frames.append(frame)
        self._bytes += len(frame or b"")
        while len(self) > self.max_events or (self._bytes > self.max_bytes and len(self) > 0):
            self._drop()

    def begin(self, offset: int) -> None:
        """Forget everything; `offset` comes next."""
        self._frames = []
        self._dropped = 0
        self._bytes = 0
        self.first = offset

    def since(self, offset: int, *, max_bytes: int) -> Piece | None:
        """Return what came after `offset`, oldest first, or None if that is no longer, or not yet, known here.

        Not more than `max_bytes`, but always at least one event where there is one: ask again from `upto`.
        """
        if offset < self.first - 1 or offset > self.last:
            return None
        frames: list[Frame] = []
        size = 0
        start = self._dropped + offset + 1 - self.first
        for place in range(start, len(self._frames)):
            frame = self._frames[place]
            if frame is None:
                continue
            size += len(frame)
            if frames and size > max_bytes:
                return Piece(frames, offset + place - start)
            frames.append(frame)
        return Piece(frames, self.last)

    def _drop(self) -> None:
        self._bytes -= len(self._frames[self._dropped] or b"")
        self._frames[self._dropped] = None
        self._dropped += 1
        self.first += 1
        if self._dropped > 1024 and self._dropped * 2 > len(self._frames):  # noqa: PLR2004  # keeps dropping cheap on average
            del self._frames[: self._dropped]
            self._dropped = 0
