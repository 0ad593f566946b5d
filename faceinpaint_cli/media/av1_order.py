"""Where pictures of AV1 stand in the order of display, as their headers count them (AV1 specification, 5.5 and 5.9)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from faceinpaint_cli.media.h264_bits import BitReader
from faceinpaint_cli.media.picture_order import Order, counted_on

HEADER_BYTES = 64
"""A header is read no farther than what is needed here."""
SEQUENCE, FRAME_HEADER, FRAME = 1, 3, 6
"""obu_type (6.2.2)."""
KEY, INTRA_ONLY, SWITCH = 0, 2, 3
"""frame_type (6.8.2)."""
RECORD_HEAD = 4
"""Bytes of the codec parameters (av1C record) before their sequence header."""
SLOTS = 8
ANY = 2
"""seq_force_screen_content_tools and seq_force_integer_mv where each picture says it (6.4.2)."""


Bytes = bytes | memoryview


@dataclass(frozen=True)
class _Sequence:
    """What picture headers depend on; `count_bits` 0 where pictures are not counted."""

    count_bits: int
    id_bits: int
    time_bits: int
    screen_content: int
    integer_motion: int
    model: bool


class Av1Order:
    """Takes packets in decoding order, and tells the order counts of the pictures that they show. Keyframes begin a
    count where theirs is 0."""

    def __init__(self, extradata: bytes | None) -> None:
        self._sequence: _Sequence | None = None
        self._slots = [0] * SLOTS
        self._last = 0
        for kind, data in _units((extradata or b"")[RECORD_HEAD:]):
            self._take(kind, data)

    def of(self, packet: Bytes) -> Order | None:
        """None where no shown picture's header can be read, or its count."""
        for kind, data in _units(packet):
            self._take(kind, data)
            if kind not in (FRAME_HEADER, FRAME) or self._sequence is None or not self._sequence.count_bits:
                continue
            try:
                shown = self._picture(BitReader(bytes(data[:HEADER_BYTES])), self._sequence)
            except ValueError:
                return None
            if shown is not None:
                return shown
        return None

    def _take(self, kind: int, data: Bytes) -> None:
        """Remember a sequence header; a damaged one is left out."""
        if kind == SEQUENCE:
            try:
                self._sequence = _sequence(BitReader(bytes(data)))
            except ValueError:
                return

    def _picture(self, r: BitReader, sequence: _Sequence) -> Order | None:
        """None for a picture that is not shown."""
        if r.flag():  # one from before is shown
            return self._shown(self._slots[r.bits(3)], sequence, key=False)
        kind, shown = r.bits(2), r.flag()
        if shown:
            r.bits(sequence.time_bits)
        else:
            r.flag()
        resilient = kind == SWITCH or (kind == KEY and shown) or r.flag()
        r.flag()
        screen_content = r.flag() if sequence.screen_content == ANY else sequence.screen_content
        if screen_content and sequence.integer_motion == ANY:
            r.flag()
        r.bits(sequence.id_bits)
        if kind != SWITCH:
            r.flag()
        count = r.bits(sequence.count_bits)
        if not (kind in (KEY, INTRA_ONLY) or resilient):
            r.bits(3)
        if sequence.model and r.flag():
            return None  # what follows depends on layers
        replaced = 0xFF if kind == SWITCH or (kind == KEY and shown) else r.bits(SLOTS)
        for slot in range(SLOTS):
            if replaced >> slot & 1:
                self._slots[slot] = count
        return self._shown(count, sequence, kind == KEY) if shown else None

    def _shown(self, count: int, sequence: _Sequence, key: bool) -> Order:
        starts = key and count == 0
        if not starts:
            count = counted_on(count, self._last, 1 << sequence.count_bits)
        self._last = count
        return Order(count, starts)


def _units(packet: Bytes) -> Iterator[tuple[int, Bytes]]:
    """(type, payload) of the packet's units (5.3); the last one may be cut."""
    place = 0
    while place < len(packet):
        head = packet[place]
        place += 1 + (head >> 2 & 1)
        size = len(packet) - place
        if head & 2:
            size = 0
            for shift in range(0, 56, 7):
                if place >= len(packet):
                    return
                size |= (packet[place] & 127) << shift
                place += 1
                if not packet[place - 1] & 128:
                    break
        yield head >> 3 & 15, packet[place : place + size]
        place += size


def _sequence(r: BitReader) -> _Sequence:
    """sequence_header_obu() (5.5.1)."""
    r.bits(3 + 1)
    if r.flag():
        return _Sequence(0, 0, 0, 0, 0, False)
    time_bits = delay_bits = 0
    model = equal = False
    if r.flag():  # timing
        r.bits(64)
        equal = r.flag()
        if equal:
            r.unsigned()
        model = r.flag()
        if model:
            delay_bits = r.bits(5) + 1
            r.bits(32 + 5)
            time_bits = r.bits(5) + 1
    delays = r.flag()
    for _ in range(r.bits(5) + 1):
        r.bits(12)
        if r.bits(5) > 7:
            r.flag()
        if model and r.flag():
            r.bits(2 * delay_bits + 1)
        if delays and r.flag():
            r.bits(4)
    width, height = r.bits(4) + 1, r.bits(4) + 1
    r.bits(width + height)
    id_bits = 0
    if r.flag():
        id_bits = r.bits(4) + 2
        id_bits += r.bits(3) + 1
    r.bits(3 + 4)
    counted = r.flag()
    if counted:
        r.bits(2)
    screen_content = ANY if r.flag() else r.bits(1)
    integer_motion = ANY
    if screen_content and not r.flag():
        integer_motion = r.bits(1)
    return _Sequence(r.bits(3) + 1 if counted else 0, id_bits, 0 if equal else time_bits, screen_content,
                     integer_motion, model)
