"""Sequence parameter sets of HEVC, changed so that the decoder gives each picture out as soon as it is decoded.

A decoder holds pictures back for as long as sps_max_num_reorder_pics allows (ITU-T H.265, C.5.2). With that at
zero it gives them in decoding order, the same pictures: nothing of the decoding itself depends on it.
"""

from __future__ import annotations

from faceinpaint_cli.media.h264_bits import BitReader, BitWriter
from faceinpaint_cli.media.h264_nal import escape, join, split, unescape

SPS = 33
"""nal_unit_type of a sequence parameter set (table 7-1)."""
Window = tuple[int, int, int, int]
"""What is cropped on the left, on the right, at the top and at the bottom, in chroma samples."""
RECORD_HEAD = 23
"""Bytes of an hvcC record before its arrays of parameter sets (ISO/IEC 14496-15, 8.3.3)."""


def unordered_extradata(extradata: bytes | None) -> bytes | None:
    """Codec parameters (hvcC record or Annex B) with every sequence parameter set changed. ValueError where one
    cannot be read."""
    return _walked(extradata)[0]


def crops_left_or_top(extradata: bytes | None) -> bool:
    """Whether the codec parameters say that pictures are cropped there, and not only on the right or at the bottom."""
    return any(left or top for left, _, top, _ in _walked(extradata)[1])


def _walked(extradata: bytes | None) -> tuple[bytes | None, list[Window]]:
    if not extradata:
        return extradata, []
    if extradata[0] != 1:
        changed = [_changed(unit.data) for unit in split(extradata, 0)]
        return join([data for data, _ in changed], 0), [window for _, window in changed]
    windows = []
    parts, at = [extradata[:RECORD_HEAD]], RECORD_HEAD
    for _ in range(extradata[RECORD_HEAD - 1]):
        parts.append(extradata[at : at + 3])
        count = int.from_bytes(extradata[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            unit, window = _changed(extradata[at + 2 : at + 2 + size])
            windows.append(window)
            parts.append(len(unit).to_bytes(2, "big") + unit)
            at += 2 + size
    return b"".join(parts), windows


def record_units(extradata: bytes | None, prefix: int) -> list[bytes]:
    """The parameter sets of an hvcC record (ISO/IEC 14496-15, 8.3.3.1), or of Annex B codec parameters (`prefix` 0)."""
    if not extradata or (prefix and len(extradata) < RECORD_HEAD):
        return []
    if not prefix:
        return [unit.data for unit in split(extradata, 0)]
    at, units = RECORD_HEAD, []
    for _ in range(extradata[RECORD_HEAD - 1]):
        count, at = int.from_bytes(extradata[at + 1 : at + 3], "big"), at + 3
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            units.append(extradata[at + 2 : at + 2 + size])
            at += 2 + size
    return units


def unordered_packet(packet: bytes, prefix: int) -> bytes:
    """A packet with the parameter sets in it changed; `prefix` as from `length_size`."""
    units = split(packet, prefix)
    if not any(_is_sps(unit.data) for unit in units):
        return packet
    return join([_changed(unit.data)[0] for unit in units], prefix)


def _is_sps(unit: bytes) -> bool:
    return len(unit) > 2 and unit[0] >> 1 & 63 == SPS


def _changed(unit: bytes) -> tuple[bytes, Window]:
    """The unit as it goes to the decoder, and the conformance window of a parameter set."""
    if not _is_sps(unit):
        return unit, (0, 0, 0, 0)
    data = unescape(unit)
    reader, writer = BitReader(data), BitWriter()

    def same(count: int) -> int:
        value = reader.bits(count)
        writer.bits(value, count)
        return value

    def same_code() -> int:
        value = reader.unsigned()
        writer.unsigned(value)
        return value

    same(16 + 4)  # header of the unit, sps_video_parameter_set_id
    layers = same(3)  # sps_max_sub_layers_minus1
    same(1 + 88 + 8)  # nesting flag; general profile and level
    told = [(same(1), same(1)) for _ in range(layers)]
    if layers:
        same(2 * (8 - layers))
    for profile, level in told:
        same(88 * profile + 8 * level)
    same_code()  # sps_seq_parameter_set_id
    if same_code() == 3:  # chroma_format_idc
        same(1)
    for _ in range(2):  # width, height
        same_code()
    window = (same_code(), same_code(), same_code(), same_code()) if same(1) else (0, 0, 0, 0)
    for _ in range(3):  # bit depths, log2_max_pic_order_cnt_lsb_minus4
        same_code()
    each = same(1)
    for _ in range(0 if each else layers, layers + 1):
        same_code()  # sps_max_dec_pic_buffering_minus1
        for _ in range(2):  # sps_max_num_reorder_pics; sps_max_latency_increase_plus1, 0: no limit
            reader.unsigned()
            writer.unsigned(0)
    rest = reader.left
    payload = reader.bits(rest)
    stop = (payload & -payload).bit_length()  # rbsp_trailing_bits: a one and zeros up to the byte
    writer.bits(payload >> stop, rest - stop)
    writer.bits(1, 1)
    return escape(writer.to_bytes()), window
