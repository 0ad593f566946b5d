"""An H.264 slice as one of a picture that no other refers to: it may be decoded again and again, and the decoder holds
what it held before."""

from __future__ import annotations

from collections.abc import Callable

from faceinpaint_cli.media.h264_headers import ParameterSets, parse_slice, slice_data_start
from faceinpaint_cli.media.h264_nal import escape, unescape

REF_IDC = 0x60


def expendable(unit: bytes, sets: ParameterSets) -> tuple[int, Callable[[bytes], bytes]]:
    """The byte of the slice `unit` from which on its data stand alone, and what makes it expendable.

    The function takes the unit, with other data behind that byte if one likes, and gives it with nal_ref_idc 0 and
    without reference marking (ITU-T H.264, 7.3.3). An IDR slice stays as it is: it leaves nothing of what was before it
    anyway. ValueError where the header is damaged.
    """
    header, end = parse_slice(unit, sets), slice_data_start(unit, sets)
    start = len(escape(unescape(unit)[: -(-end // 8)]))
    if header.idr:
        return start, lambda changed: changed
    first, last = header.marking_bits
    cabac = sets.pps[header.pps].cabac

    def stripped(changed: bytes) -> bytes:
        data = unescape(changed)
        total = len(data) * 8
        value = int.from_bytes(data, "big")
        count = first + end - last
        head = (value >> total - first) << end - last | value >> total - end & (1 << end - last) - 1
        if cabac:
            fill = -count % 8  # cabac_alignment_one_bit, 7.3.4
            whole = (head << fill | (1 << fill) - 1).to_bytes((count + fill) // 8, "big") + data[-(-end // 8) :]
        else:
            left = total - end
            fill = -(count + left) % 8
            whole = ((head << left | value & (1 << left) - 1) << fill).to_bytes((count + left + fill) // 8, "big")
        return escape(bytes([whole[0] & ~REF_IDC]) + whole[1:])

    return start, stripped
