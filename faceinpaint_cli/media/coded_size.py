"""Headers of MPEG-1 and 2 changed so that pictures come out with all of their macroblocks.

What is hidden beyond the edge of a picture whose sides are no multiples of 16 (the lowest 8 of 1088 lines, say) is
coded, and referred to, all the same (ITU-T H.262, 7.6.3.1). A decoder has no word for showing it: but where a header
gives the size in whole macroblocks it shows just that, and reads on as before.
"""

from __future__ import annotations

from contextlib import suppress

from faceinpaint_cli.media.h264_bits import BitReader
from faceinpaint_cli.media.picture_order import PICTURE

MACROBLOCK, PAIR = 16, 32
"""Side in pixels; MPEG-2 that may hold fields is coded in whole pairs of rows (H.262, 6.3.3)."""
SEQUENCE, EXTENSION = b"\0\0\1\xb3", b"\0\0\1\xb5"
SEQUENCE_EXTENSION = 1
"""extension_start_code_identifier (H.262, table 6-2)."""
SIDE_BITS = 12
"""Of a side in the sequence header of MPEG-1 and 2."""


def with_whole_macroblocks(data: bytes, codec: str) -> bytes:
    """The codec parameters or a packet of mpeg1video or mpeg2video, with the size in its headers rounded up.

    What cannot be read, or is of another `codec`, is left as it is. (Not MPEG-4: FFmpeg's decoder limits vectors that
    lead out of the picture by the size in the header, and 11 of 15 clips came out otherwise.)
    """
    if codec not in ("mpeg1video", "mpeg2video"):
        return data
    end = data.find(PICTURE)
    headers = data if end < 0 else data[:end]
    with suppress(ValueError):
        headers = _mpeg2(headers, codec)
    return headers + data[len(headers) :]


def _mpeg2(headers: bytes, codec: str) -> bytes:
    place = headers.find(SEQUENCE)
    if place < 0:
        return headers
    height = MACROBLOCK
    extension = headers.find(EXTENSION, place)
    if codec == "mpeg2video" and extension >= 0:
        r = BitReader(headers[extension + 4 :])
        if r.bits(4) == SEQUENCE_EXTENSION:
            r.bits(8)  # profile and level
            height = MACROBLOCK if r.flag() else PAIR
    start = (place + 4) * 8
    return _rounded(_rounded(headers, start, SIDE_BITS, MACROBLOCK), start + SIDE_BITS, SIDE_BITS, height)


def _rounded(data: bytes, start: int, count: int, unit: int) -> bytes:
    """The data with the number in bits `start` to `start + count` rounded up to a multiple of `unit`, where that still
    fits in."""
    shift = len(data) * 8 - start - count
    value = int.from_bytes(data, "big")
    number = value >> shift & (1 << count) - 1
    more = -number % unit
    if shift < 0 or number + more >= 1 << count:
        return data
    return (value + (more << shift)).to_bytes(len(data), "big")
