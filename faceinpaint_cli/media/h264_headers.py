"""Parameter sets and slice headers of H.264 (ITU-T H.264, 7.3.2 and 7.3.3), every code checked for bounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from faceinpaint_cli.media.h264_bits import BitReader
from faceinpaint_cli.media.h264_nal import Nal, split, unescape

SLICE, IDR_SLICE, SPS_UNIT, PPS_UNIT = 1, 5, 7, 8
HIGH_PROFILES = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
"""Profiles whose parameter sets tell chroma format and bit depth (7.3.2.1.1)."""
HEADER_BYTES = 128
"""A slice header is far shorter than this; reading so much of a unit is enough."""


@dataclass(frozen=True)
class Sps:
    """Sequence parameter set: what is needed to write further pictures of the sequence."""

    id: int
    profile: int
    chroma: int
    separate_planes: bool
    luma_bits: int
    chroma_bits: int
    frame_num_bits: int
    poc_type: int
    poc_bits: int
    poc_delta_always_zero: bool
    max_refs: int
    gaps_allowed: bool
    mb_width: int
    mb_height: int
    frames_only: bool
    pairs: bool
    """Whether macroblocks of frames come in pairs, one above the other, each of lines or of fields (MBAFF)."""
    crop: tuple[int, int, int, int]
    """Left, right, top, bottom in luma pixels."""

    @property
    def chroma_size(self) -> tuple[int, int]:
        """Height and width of a macroblock's chroma blocks: (0, 0) for gray."""
        return ((0, 0), (8, 8), (16, 8), (16, 16))[self.chroma]


@dataclass(frozen=True)
class Pps:
    """Picture parameter set."""

    id: int
    sps: int
    cabac: bool
    bottom_poc: bool
    slice_groups: int
    refs: tuple[int, int]
    weighted_p: bool
    weighted_b: int
    deblocking_control: bool
    redundant: bool


@dataclass(frozen=True)
class SliceHeader:
    """One slice's header up to its reference marking.

    `type` is "P", "B", "I", "SP" or "SI"; `poc` the least significant bits of the picture order count (type
    0); `poc_deltas` the delta codes of type 0 (bottom) or 1; `marking` the codes of dec_ref_pic_marking in
    order, each (kind, value) with kind "flag" or "ue".
    """

    idr: bool
    ref_idc: int
    first_mb: int
    type: str
    pps: int
    frame_num: int
    field: bool
    idr_id: int
    poc: int
    poc_deltas: tuple[int, ...]
    marking: tuple[tuple[str, int], ...]
    marking_bits: tuple[int, int]
    """From which to which bit of the unescaped unit, its first byte counted, the marking stands; empty where it would
    stand if there is none."""

    @property
    def is_reference(self) -> bool:
        return self.ref_idc > 0


@dataclass
class ParameterSets:
    """The sets seen so far, by id; later ones replace earlier ones, as in the decoder."""

    sps: dict[int, Sps]
    pps: dict[int, Pps]

    @classmethod
    def from_extradata(cls, extradata: bytes | None) -> ParameterSets:
        """From avcC or from Annex B extradata; empty where there is none."""
        sets = cls({}, {})
        for unit in extradata_units(extradata):
            sets.take(unit)
        return sets

    def take(self, unit: bytes) -> None:
        """Remember the set in this unit; a damaged one is left out."""
        kind = unit[0] & 31
        try:
            if kind == SPS_UNIT:
                sps = parse_sps(unit)
                self.sps[sps.id] = sps
            elif kind == PPS_UNIT:
                pps = parse_pps(unit)
                self.pps[pps.id] = pps
        except ValueError:
            return

    def slice_header(self, unit: bytes) -> SliceHeader:
        """The header of a slice unit; ValueError where it is damaged or names sets that are not there."""
        return parse_slice(unit, self)

    def sps_of(self, header: SliceHeader) -> Sps:
        return self.sps[self.pps[header.pps].sps]


def extradata_units(extradata: bytes | None) -> list[bytes]:
    """The parameter set units in a decoder configuration record (ISO/IEC 14496-15, 5.3.3.1) or Annex B."""
    if not extradata:
        return []
    if extradata[0] != 1:
        return [unit.data for unit in split(extradata, 0)]
    units, at = [], 5
    for mask in (31, 255):
        if at >= len(extradata):
            break
        count, at = extradata[at] & mask, at + 1
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            units.append(extradata[at + 2 : at + 2 + size])
            at += 2 + size
    return [unit for unit in units if unit]


def parse_sps(unit: bytes) -> Sps:
    """Sequence parameter set (7.3.2.1.1), as far as the cropping; ValueError where it makes no sense."""
    r = BitReader(unescape(unit)[1:])
    profile = r.bits(8)
    r.bits(16)
    number = r.unsigned(31)
    chroma, separate, luma_bits, chroma_bits = 1, False, 8, 8
    if profile in HIGH_PROFILES:
        chroma = r.unsigned(3)
        separate = r.flag() if chroma == 3 else False
        luma_bits, chroma_bits = 8 + r.unsigned(6), 8 + r.unsigned(6)
        r.flag()
        if r.flag():
            for i in range(8 if chroma != 3 else 12):
                if r.flag():
                    _skip_scaling_list(r, 16 if i < 6 else 64)
    frame_num_bits = r.unsigned(12) + 4
    poc_type = r.unsigned(2)
    poc_bits, always_zero = 0, False
    if poc_type == 0:
        poc_bits = r.unsigned(12) + 4
    elif poc_type == 1:
        always_zero = r.flag()
        r.signed()
        r.signed()
        for _ in range(r.unsigned(255)):
            r.signed()
    max_refs, gaps = r.unsigned(16), r.flag()
    width, height = r.unsigned(1023) + 1, r.unsigned(1023) + 1
    frames_only = r.flag()
    pairs = False
    if not frames_only:
        pairs = r.flag()
        height *= 2
    r.flag()
    crop = (0, 0, 0, 0)
    if r.flag():
        x = 2 if chroma in (1, 2) else 1
        y = (2 if chroma == 1 else 1) * (1 if frames_only else 2)
        left, right, top, bottom = (r.unsigned(1 << 14) for _ in range(4))
        crop = (left * x, right * x, top * y, bottom * y)
    if crop[0] + crop[1] >= width * 16 or crop[2] + crop[3] >= height * 16:
        raise ValueError("the cropping leaves nothing of the picture")
    return Sps(number, profile, chroma, separate, luma_bits, chroma_bits, frame_num_bits, poc_type, poc_bits,
               always_zero, max_refs, gaps, width, height, frames_only, pairs, crop)


def _skip_scaling_list(r: BitReader, size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            following = (last + r.signed()) % 256
        last = following or last


def parse_pps(unit: bytes) -> Pps:
    """Picture parameter set (7.3.2.2), as far as the slice header needs it."""
    r = BitReader(unescape(unit)[1:])
    number, sps = r.unsigned(255), r.unsigned(31)
    cabac, bottom = r.flag(), r.flag()
    groups = r.unsigned(7) + 1
    if groups > 1:
        raise ValueError("slice groups are not supported")
    refs = (r.unsigned(31) + 1, r.unsigned(31) + 1)
    weighted_p, weighted_b = r.flag(), r.bits(2)
    for _ in range(3):
        r.signed()
    deblocking = r.flag()
    r.flag()
    return Pps(number, sps, cabac, bottom, groups, refs, weighted_p, weighted_b, deblocking, r.flag())


def parse_slice(unit: bytes, sets: ParameterSets) -> SliceHeader:
    """A slice header (7.3.3) up to and with dec_ref_pic_marking."""
    return _read_slice(unescape(unit[:HEADER_BYTES]), sets)[0]


def slice_data_start(unit: bytes, sets: ParameterSets) -> int:
    """The bit of the unescaped unit, its first byte counted, behind the last one of its slice header; ValueError where
    the header is damaged. (With CABAC the data begin at the next whole byte.)"""
    data = unescape(unit[:HEADER_BYTES])
    header, r = _read_slice(data, sets)
    pps = sets.pps[header.pps]
    if pps.cabac and header.type not in ("I", "SI"):
        r.unsigned(2)
    r.signed()
    if header.type in ("SP", "SI"):
        raise ValueError("switching slices are not supported")
    if pps.deblocking_control and r.unsigned(2) != 1:
        r.signed()
        r.signed()
    return len(data) * 8 - r.left


def _read_slice(data: bytes, sets: ParameterSets) -> tuple[SliceHeader, BitReader]:
    """A slice header from an unescaped unit, and what is read next."""
    kind, ref_idc = data[0] & 31, data[0] >> 5 & 3
    if kind not in (SLICE, IDR_SLICE) or data[0] & 128:
        raise ValueError(f"unit type {kind} is no whole slice")
    r = BitReader(data[1:])
    idr = kind == IDR_SLICE
    first_mb = r.unsigned(1 << 20)
    slice_type = ("P", "B", "I", "SP", "SI")[r.unsigned(9) % 5]
    pps = sets.pps.get(r.unsigned(255))
    if pps is None or pps.sps not in sets.sps:
        raise ValueError("the slice names a parameter set that is not there")
    sps = sets.sps[pps.sps]
    if first_mb >= sps.mb_width * sps.mb_height:
        raise ValueError("the slice begins outside of the picture")
    if idr and (not ref_idc or slice_type not in ("I", "SI")):
        raise ValueError("an IDR slice is an intra reference")
    if sps.separate_planes:
        r.bits(2)
    frame_num = r.bits(sps.frame_num_bits)
    field = False
    if not sps.frames_only:
        field = r.flag()
        if field:
            r.flag()
    idr_id = r.unsigned(65535) if idr else 0
    poc, deltas = 0, []
    if sps.poc_type == 0:
        poc = r.bits(sps.poc_bits)
        if pps.bottom_poc and not field:
            deltas.append(r.signed())
    elif sps.poc_type == 1 and not sps.poc_delta_always_zero:
        deltas.append(r.signed())
        if pps.bottom_poc and not field:
            deltas.append(r.signed())
    if pps.redundant:
        r.unsigned(127)
    _skip_references(r, slice_type, pps, sps)
    before = r.left
    marking = _read_marking(r, idr) if ref_idc else ()
    total = len(data) * 8
    return SliceHeader(idr, ref_idc, first_mb, slice_type, pps.id, frame_num, field, idr_id, poc,
                       tuple(deltas), marking, (total - before, total - r.left)), r


def _skip_references(r: BitReader, slice_type: str, pps: Pps, sps: Sps) -> None:
    """Numbers of references, list modification and prediction weights (7.3.3.1, 7.3.3.2)."""
    if slice_type in ("I", "SI"):
        return
    if slice_type == "B":
        r.flag()
    refs = list(pps.refs)
    if r.flag():
        refs[0] = r.unsigned(31) + 1
        if slice_type == "B":
            refs[1] = r.unsigned(31) + 1
    lists = 2 if slice_type == "B" else 1
    for _ in range(lists):
        if r.flag():
            while r.unsigned(5) != 3:
                r.unsigned()
    if (pps.weighted_p and slice_type in ("P", "SP")) or (pps.weighted_b == 1 and slice_type == "B"):
        r.unsigned(7)
        color = sps.chroma and not sps.separate_planes
        if color:
            r.unsigned(7)
        for count in refs[:lists]:
            for _ in range(count):
                for codes in (2, 4) if color else (2,):
                    if r.flag():
                        for _ in range(codes):
                            r.signed()


def _read_marking(r: BitReader, idr: bool) -> tuple[tuple[str, int], ...]:
    """dec_ref_pic_marking (7.3.3.3), code by code."""
    if idr:
        return ("flag", r.bits(1)), ("flag", r.bits(1))
    codes = [("flag", r.bits(1))]
    while codes[0][1]:
        operation = r.unsigned(6)
        codes.append(("ue", operation))
        if operation == 0:
            break
        operands = {1: 1, 2: 1, 3: 2, 4: 1, 5: 0, 6: 1}[operation]
        codes += [("ue", r.unsigned()) for _ in range(operands)]
        if len(codes) > 200:
            raise ValueError("reference marking does not end")
    return tuple(codes)


def predicts(units: Iterable[Nal], sets: ParameterSets) -> bool:
    """Whether one of a picture's slices, as far as they can be read, takes from other pictures."""
    for unit in filter(is_slice, units):
        try:
            if sets.slice_header(unit.data).type in ("P", "B", "SP"):
                return True
        except ValueError:
            continue
    return False


def is_slice(unit: Nal | bytes) -> bool:
    data = unit.data if isinstance(unit, Nal) else unit
    return bool(data) and data[0] & 31 in (SLICE, IDR_SLICE)
