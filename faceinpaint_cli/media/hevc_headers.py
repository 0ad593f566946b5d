"""Headers of HEVC, read as far as the reference picture set, and the header of a picture that stands in for a lost one.

What a picture refers to is written in its header by order count (ITU-T H.265, 8.3.2): a picture that is not there is
known by what others say of it. One with that count, whatever its samples, keeps a decoder from making one up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from faceinpaint_cli.media.h264_bits import BitReader, BitWriter
from faceinpaint_cli.media.h264_nal import escape, join, split, unescape
from faceinpaint_cli.media.hevc_sps import record_units
from faceinpaint_cli.media.picture_order import counted_on

HEADER_BYTES = 96
"""A slice header is read no farther than what is needed here."""
VPS, SPS, PPS = 32, 33, 34
LAST_SLICE = 21
FIRST_KEY, LAST_RESERVED_KEY = 16, 23
BLA = (16, 17, 18)
IDR = (19, 20)
RASL = (8, 9)
LEADING = (6, 7, *RASL)  # RADL and RASL
TRAILING_REFERENCE = 1
"""nal_unit_type (H.265, table 7-1)."""
MOST_REFERENCES = 16
ONE_LAYER = 1
"""The second byte of a unit's header: no layer above the base, and temporal layer 0."""

EMPTY = b"\x80" * 8
"""Slice data; what a decoder makes of it does not matter. (It takes zeros at the end for padding.)"""

ReferenceSet = tuple[tuple[int, bool], ...]
"""(distance in order count, whether the picture itself refers to it) of pictures that are kept."""


@dataclass(frozen=True)
class Sps:
    """Sequence parameter set: what slice headers depend on; `sets` is None where the rest of it cannot be read."""

    planes_apart: bool
    grey: bool
    count_bits: int
    sao: bool = False
    sets: tuple[ReferenceSet, ...] | None = None
    long_term: bool = False
    temporal_motion: bool = False


@dataclass(frozen=True)
class Pps:
    """Picture parameter set; what stands behind `extra_bits` is read only for a header that is written."""

    sps: int
    output_flags: bool
    extra_bits: int
    unit: bytes


@dataclass(frozen=True)
class Header:
    """A picture's first slice header: its unit's type, parameter set, order count without its modulus, and pictures
    that it `keeps`, of which it `refers` to some itself, as counts; both None where that cannot be read."""

    kind: int
    pps: int
    count: int
    keeps: tuple[int, ...] | None
    refers: tuple[int, ...] | None

    @property
    def starts(self) -> bool:
        """Whether counts begin anew with it."""
        return self.kind in IDR or self.kind in BLA

    @property
    def is_key(self) -> bool:
        return self.kind >= FIRST_KEY


class HevcHeaders:
    """Takes packets in decoding order, or their first few kilobytes, and reads their pictures' headers; `extradata`
    and `prefix` as of the stream."""

    def __init__(self, extradata: bytes | None, prefix: int) -> None:
        self._prefix = prefix
        self._sps: dict[int, Sps] = {}
        self._pps: dict[int, Pps] = {}
        self._last = 0
        for unit in record_units(extradata, prefix):
            self._take(unit)

    def of(self, packet: bytes) -> Header | None:
        """None where there is no first slice header that can be read."""
        for unit in split(packet, self._prefix):
            if len(unit.data) < 3 or unit.data[0] & 1 or unit.data[1] >> 3:  # of another layer
                continue
            kind = unit.data[0] >> 1 & 63
            if kind > LAST_SLICE:
                self._take(unit.data)
                continue
            try:
                return self._header(unit.data, kind)
            except (ValueError, LookupError):  # a damaged header, or the number of a set that is not there
                return None
        return None

    def stand_in(self, packet: bytes, like: Header, count: int, there: Collection[int]) -> bytes | None:
        """A packet with a picture of this order count and nothing in it, which keeps those of `there` that the picture
        `like`, the next one, keeps; with count 0 and none of them it begins a count. Parameter sets of the old `packet`
        are kept. None where the stream has pictures that are referred to in other ways.
        """
        pps = self._pps[like.pps]
        sps = self._sps[pps.sps]
        if sps.sets is None or sps.long_term or like.keeps is None:
            return None
        kept = sorted(c for c in like.keeps if c in there and c != count)
        kind = TRAILING_REFERENCE if kept or count else IDR[0]
        w = BitWriter()
        w.flag(True)
        if kind in IDR:
            w.flag(False)  # pictures before it are shown all the same
        w.unsigned(like.pps)
        w.bits(0, pps.extra_bits)
        w.unsigned(2)  # intra
        if pps.output_flags:
            w.flag(True)
        w.bits(0, 2 * sps.planes_apart)
        if kind not in IDR:
            w.bits(count % (1 << sps.count_bits), sps.count_bits)
            w.flag(False)
            _write_set(w, [c - count for c in kept], bool(sps.sets))
            if sps.temporal_motion:
                w.flag(False)
        if sps.sao:
            w.bits(0, 1 if sps.grey or sps.planes_apart else 2)
        try:
            _write_rest(w, pps)
        except ValueError:
            return None
        w.flag(True)
        w.align()
        units = [u.data for u in split(packet, self._prefix)
                 if u.whole and len(u.data) > 2 and u.data[0] >> 1 & 63 in (VPS, SPS, PPS)]
        return join([*units, bytes([kind << 1, ONE_LAYER]) + escape(w.to_bytes() + EMPTY)], self._prefix)

    def _header(self, unit: bytes, kind: int) -> Header | None:
        r = BitReader(unescape(unit[:HEADER_BYTES])[2:])
        if not r.flag():  # the first slice is lost
            return None
        if FIRST_KEY <= kind <= LAST_RESERVED_KEY:
            r.flag()
        number = r.unsigned(63)
        pps = self._pps[number]
        sps = self._sps[pps.sps]
        r.bits(pps.extra_bits)
        r.unsigned(2)
        r.bits(pps.output_flags + 2 * sps.planes_apart)
        if kind in IDR:
            self._last = 0
            return Header(kind, number, 0, (), ())
        count = r.bits(sps.count_bits)
        if kind not in BLA:
            count = counted_on(count, self._last, 1 << sps.count_bits)
        # 8.3.1: what no other picture of its layer refers to is not counted from
        if unit[1] & 7 == 1 and kind not in LEADING and (kind >= FIRST_KEY or kind & 1):
            self._last = count
        if sps.sets is None:
            return Header(kind, number, count, None, None)
        if not r.flag():
            found = _reference_set(r, sps.sets, in_slice=True)
        else:
            found = sps.sets[r.bits((len(sps.sets) - 1).bit_length())]
        if kind in BLA:
            found = ()
        return Header(kind, number, count, tuple(count + d for d, _ in found),
                      tuple(count + d for d, used in found if used and kind < FIRST_KEY))

    def _take(self, unit: bytes) -> None:
        """Remember a parameter set; a damaged one, or one of another layer, is left out."""
        kind = unit[0] >> 1 & 63 if len(unit) > 2 else 0
        if kind not in (SPS, PPS) or unit[0] & 1 or unit[1] >> 3:
            return
        r = BitReader(unescape(unit)[2:])
        try:
            if kind == SPS:
                number, sps = _sps(r)
                self._sps[number] = sps
            else:
                number, sps_number = r.unsigned(63), r.unsigned(15)
                r.flag()
                self._pps[number] = Pps(sps_number, r.flag(), r.bits(3), unit)
        except ValueError:
            return


def _sps(r: BitReader) -> tuple[int, Sps]:
    """Number and content of a sequence parameter set (7.3.2.2.1)."""
    r.bits(4)
    layers = r.bits(3)
    r.bits(1 + 88 + 8)
    told = [(r.bits(1), r.bits(1)) for _ in range(layers)]
    r.bits(2 * (8 - layers) if layers else 0)
    for profile, level in told:
        r.bits(88 * profile + 8 * level)
    number, chroma = r.unsigned(15), r.unsigned(3)
    apart = chroma == 3 and r.flag()
    for _ in range(2):  # width, height
        r.unsigned()
    for _ in range(4 * r.bits(1) + 2):  # the window, and bit depths
        r.unsigned()
    least = Sps(apart, chroma == 0, r.unsigned(12) + 4)
    try:
        return number, _with_rest(r, least, layers)
    except ValueError:
        return number, least


def _with_rest(r: BitReader, sps: Sps, layers: int) -> Sps:
    for _ in range(3 * (layers + 1 if r.flag() else 1)):  # the decoder's buffer
        r.unsigned()
    for _ in range(6):  # sizes and depths of blocks
        r.unsigned()
    if r.flag() and r.flag():
        _skip_scaling_lists(r)
    r.flag()
    sao = r.flag()
    if r.flag():  # raw samples
        r.bits(8)
        r.unsigned()
        r.unsigned()
        r.flag()
    sets: list[ReferenceSet] = []
    for _ in range(r.unsigned(64)):
        sets.append(_reference_set(r, sets, in_slice=False))
    long_term = r.flag()
    if long_term:
        r.bits((sps.count_bits + 1) * r.unsigned(32))
    return replace(sps, sao=sao, sets=tuple(sets), long_term=long_term, temporal_motion=r.flag())


def _reference_set(r: BitReader, sets: Sequence[ReferenceSet], in_slice: bool) -> ReferenceSet:
    """st_ref_pic_set() (7.3.7, 7.4.8), of a slice header or the next of a sequence parameter set's."""
    if sets and r.flag():
        source = sets[-1 - (r.unsigned(len(sets) - 1) if in_slice else 0)]
        negative, far = r.flag(), r.unsigned(1 << 15) + 1
        shift = -far if negative else far
        found = []
        for distance in (*(d for d, _ in source), 0):
            used = r.flag()
            if used or r.flag():
                found.append((distance + shift, used))
        return tuple(sorted((f for f in found if f[0]), key=lambda f: (f[0] > 0, abs(f[0]))))
    counts = r.unsigned(MOST_REFERENCES), r.unsigned(MOST_REFERENCES)
    found = []
    for count, sign in zip(counts, (-1, 1), strict=True):
        distance = 0
        for _ in range(count):
            distance += sign * (r.unsigned(1 << 15) + 1)
            found.append((distance, r.flag()))
    return tuple(found)


def _write_set(w: BitWriter, distances: Sequence[int], after_others: bool) -> None:
    """st_ref_pic_set() of a slice header, of pictures that are kept and not referred to; `after_others` where the
    sequence parameter set has sets."""
    if after_others:
        w.flag(False)
    sides = [sorted(-d for d in distances if d < 0), sorted(d for d in distances if d > 0)]
    for side in sides:
        w.unsigned(len(side))
    for side in sides:
        for distance, nearer in zip(side, [0, *side], strict=False):
            w.unsigned(distance - nearer - 1)
            w.flag(False)


def _skip_scaling_lists(r: BitReader) -> None:
    """scaling_list_data() (7.3.4)."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not r.flag():
                r.unsigned()
                continue
            for _ in range(min(64, 16 << 2 * size) + (size > 1)):
                r.signed()


def _write_rest(w: BitWriter, pps: Pps) -> None:
    """What an intra slice's header has after its references and its filter's flags, with nothing changed by it;
    ValueError where the picture parameter set cannot be read."""
    r = BitReader(unescape(pps.unit)[2:])
    r.unsigned()
    r.unsigned()
    r.bits(1 + 1 + 3 + 2)
    for _ in range(2):  # numbers of references
        r.unsigned()
    r.signed()
    r.bits(2)
    if r.flag():  # quantisers of coding units
        r.unsigned()
    r.signed()
    r.signed()
    chroma = r.flag()
    r.bits(3)
    tiles, rows = r.flag(), r.flag()
    if tiles:
        counts = r.unsigned(64) + r.unsigned(64)
        if not r.flag():
            for _ in range(counts):
                r.unsigned()
        r.flag()
    across = r.flag()
    override = off = False
    if r.flag():  # deblocking
        override, off = r.flag(), r.flag()
        if not off:
            r.signed()
            r.signed()
    if r.flag():
        _skip_scaling_lists(r)
    r.flag()
    r.unsigned()
    extended = r.flag()
    w.signed(0)  # quantiser
    if chroma:
        w.bits(0b11, 2)
    if override:
        w.flag(False)
    if across and not off:
        w.flag(False)
    if tiles or rows:
        w.unsigned(0)
    if extended:
        w.unsigned(0)
