"""Where pictures of MPEG-1 and -2 stand in the order of display, as their own headers count them (ITU-T H.262, 6.2.3):
that tells where a picture is missing that no packet speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass

TURN = 1024
"""temporal_reference counts modulo so many (H.262, 6.3.9)."""
PICTURE, GROUP = b"\0\0\1\0", b"\0\0\1\xb8"


@dataclass(frozen=True)
class Order:
    """A picture's place in the order of display, counted from the last picture that `starts` a count."""

    count: int
    starts: bool


def counted_on(count: int, last: int, turn: int) -> int:
    """A count that is written modulo `turn`, as the one that is nearest to the `last` one."""
    return count + round((last - count) / turn) * turn


class Mpeg2Order:
    """Takes packets in decoding order, or their first few kilobytes, and tells their pictures' order counts."""

    def __init__(self) -> None:
        self._last = 0

    def of(self, packet: bytes) -> Order | None:
        """None where there is no picture header."""
        place = packet.find(PICTURE)
        if place < 0 or place + 6 > len(packet):
            return None
        starts = 0 <= packet.find(GROUP) < place
        count = int.from_bytes(packet[place + 4 : place + 6], "big") >> 6
        if not starts:
            count = counted_on(count, self._last, TURN)
        self._last = count
        return Order(count, starts)
