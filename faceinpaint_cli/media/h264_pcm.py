"""Pictures of raw samples for H.264: a repaired picture that takes a lost one's place in the stream.

An I slice of I_PCM macroblocks carries samples without loss (ITU-T H.264, 7.3.5, mb_type 25). Written with
the lost picture's frame_num, picture order count and reference marking, the decoder takes it for that one,
and every later picture that refers to it is rebuilt from its own intact residuals. It points to a picture
parameter set of its own, which switches CABAC off and the deblocking filter's control on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faceinpaint_cli.media.h264_bits import BitWriter
from faceinpaint_cli.media.h264_headers import IDR_SLICE, PPS_UNIT, SLICE, Pps, SliceHeader, Sps
from faceinpaint_cli.media.h264_nal import escape

GREY = 128
I_PCM = 25
I_SLICE = 7


def can_write(sps: Sps) -> str | None:
    """None where I_PCM pictures can be written for this sequence, else the reason why not."""
    if sps.separate_planes or sps.chroma == 0:
        return "separate colour planes or gray"
    return None


def grey(sps: Sps) -> list[np.ndarray]:
    """Planes of a grey picture of a sequence, whole coded size (HW uint8 or uint16)."""
    height, width = sps.mb_height, sps.mb_width
    sizes = ((16, 16), sps.chroma_size, sps.chroma_size)
    bits = (sps.luma_bits, sps.chroma_bits, sps.chroma_bits)
    return [np.full((height * h, width * w), GREY << depth - 8, np.uint8 if depth == 8 else np.uint16)
            for (h, w), depth in zip(sizes, bits, strict=True)]


def pcm_pps(number: int, sps: int, bottom_poc: bool = False) -> bytes:
    """A picture parameter set unit: CAVLC, one slice group, deblocking control (7.3.2.2)."""
    w = BitWriter()
    w.unsigned(number)
    w.unsigned(sps)
    w.flag(False)  # entropy_coding_mode_flag: CAVLC
    w.flag(bottom_poc)
    w.unsigned(0)  # one slice group
    w.unsigned(0)
    w.unsigned(0)
    w.flag(False)
    w.bits(0, 2)
    for _ in range(3):
        w.signed(0)  # pic_init_qp, pic_init_qs, chroma_qp_index_offset
    w.flag(True)  # deblocking_filter_control_present_flag
    w.flag(False)
    w.flag(False)
    w.flag(True)  # rbsp_stop_one_bit
    return bytes([3 << 5 | PPS_UNIT]) + escape(w.to_bytes())


def pcm_slice(header: SliceHeader, sps: Sps, pps: Pps, planes: Sequence[np.ndarray], pcm_id: int) -> bytes:
    """One slice unit that holds the whole picture.

    `planes`: Y, U, V as HW uint8 (uint16 above 8 bits) with the sizes of the coded picture: what the cropping
    hides belongs to it, for later pictures refer to that too. `pcm_id` is the number of the set that
    `pcm_pps` made.
    """
    w = BitWriter()
    w.unsigned(0)
    w.unsigned(I_SLICE)
    w.unsigned(pcm_id)
    w.bits(header.frame_num, sps.frame_num_bits)
    if not sps.frames_only:
        w.flag(False)  # field_pic_flag
    if header.idr:
        w.unsigned(header.idr_id)
    if sps.poc_type == 0:
        w.bits(header.poc, sps.poc_bits)
    if pps.bottom_poc or (sps.poc_type == 1 and not sps.poc_delta_always_zero):
        for delta in header.poc_deltas:
            w.signed(delta)
    for kind, value in header.marking if header.is_reference else ():
        w.bits(value, 1) if kind == "flag" else w.unsigned(value)
    w.signed(0)  # slice_qp_delta
    w.unsigned(1)  # disable_deblocking_filter_idc: off
    if sps.pairs:
        w.flag(False)  # mb_field_decoding_flag
    w.unsigned(I_PCM)
    start = w.to_bytes()
    macroblocks = _macroblocks(planes, sps)
    # each further macroblock: mb_type ue(25) = 000011010, then zeros to the byte's end (7.3.5)
    prefix = np.tile(np.array([[0x0D, 0]], np.uint8), (len(macroblocks), 1))
    if sps.pairs:
        macroblocks = in_pairs(macroblocks.reshape(sps.mb_height, sps.mb_width, -1)).reshape(len(macroblocks), -1)
        prefix[::2] = 0x06, 0x80  # the first of each pair behind its mb_field_decoding_flag
    body = np.concatenate([prefix, macroblocks], axis=1).tobytes()[2:]
    unit = bytes([header.ref_idc << 5 | (IDR_SLICE if header.idr else SLICE)])
    return unit + escape(start + body + b"\x80")


def in_pairs(macroblocks: np.ndarray) -> np.ndarray:
    """What belongs to each macroblock (rows, columns, ...), in the order of pairs: (rows / 2, columns, 2, ...)."""
    rows, columns, *rest = macroblocks.shape
    return macroblocks.reshape(rows // 2, 2, columns, *rest).swapaxes(1, 2)


def _macroblocks(planes: Sequence[np.ndarray], sps: Sps) -> np.ndarray:
    """Samples in coding order, one row of bytes a macroblock: luma 16 x 16, then the two chroma blocks."""
    height, width = sps.chroma_size
    sizes = ((16, 16), (height, width), (height, width))
    columns = []
    for plane, (h, w) in zip(planes, sizes, strict=True):
        if plane.shape != (sps.mb_height * h, sps.mb_width * w):
            raise ValueError(f"plane of {plane.shape} is not of the coded picture's size")
        blocks = plane.reshape(sps.mb_height, h, sps.mb_width, w).swapaxes(1, 2)
        columns.append(blocks.reshape(sps.mb_height * sps.mb_width, h * w))
    if sps.luma_bits == 8 and sps.chroma_bits == 8:
        return np.concatenate(columns, axis=1).astype(np.uint8)
    depths = (sps.luma_bits, sps.chroma_bits, sps.chroma_bits)
    bits = np.concatenate([_to_bits(c, d) for c, d in zip(columns, depths, strict=True)], axis=1)
    return np.packbits(bits, axis=1)  # 384 or more samples of equal depth fill whole bytes


def _to_bits(samples: np.ndarray, depth: int) -> np.ndarray:
    """Samples as bits, the highest first."""
    wide = samples.astype(">u2").view(np.uint8).reshape(len(samples), -1, 2)
    return np.unpackbits(wide, axis=2)[..., 16 - depth :].reshape(len(samples), -1)
