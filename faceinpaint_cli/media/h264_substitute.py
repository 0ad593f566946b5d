"""Putting a repaired picture into an H.264 stream in a lost one's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceinpaint_cli.media.h264_headers import PPS_UNIT, SPS_UNIT, ParameterSets, Pps, SliceHeader, Sps, is_slice
from faceinpaint_cli.media.h264_nal import join, length_size, split
from faceinpaint_cli.media.h264_pcm import can_write, pcm_pps, pcm_slice

DELIMITER_UNIT = 9


@dataclass(frozen=True)
class Heading:
    """A picture's header with the parameter sets that it was written under, and where its slices begin.

    `starts` are the first macroblocks of the slices that can be read, ascending.
    """

    header: SliceHeader
    sps: Sps
    pps: Pps
    starts: tuple[int, ...] = (0,)

    @property
    def macroblocks(self) -> int:
        return self.sps.mb_width * self.sps.mb_height


class Substituter:
    """Reads headers of one stream's packets and writes pictures of raw samples in the same packing.

    Packets are shown to `heading` in decoding order, so that parameter sets in the stream are known: in `sets`.
    """

    def __init__(self, extradata: bytes | None) -> None:
        self._prefix = length_size("h264", extradata)
        self.sets = ParameterSets.from_extradata(extradata)

    def heading(self, packet: bytes) -> Heading | None:
        """The header of a packet's picture, from its first slice that can be read; None where there is none."""
        first: SliceHeader | None = None
        starts: list[int] = []
        for unit in split(packet, self._prefix):
            if not unit.data:
                continue
            if not is_slice(unit):
                self.sets.take(unit.data)
                continue
            try:
                header = self.sets.slice_header(unit.data)
            except ValueError:
                continue
            first = first or header
            sps = self.sets.sps_of(header)
            starts.append(header.first_mb * (2 if sps.pairs and not header.field else 1))
        if first is None:
            return None
        return Heading(first, self.sets.sps_of(first), self.sets.pps[first.pps], tuple(sorted(set(starts))))

    def refusal(self, heading: Heading) -> str | None:
        """Why a picture like this one cannot be put back, None where it can."""
        return "fields are pictures of their own" if heading.header.field else can_write(heading.sps)

    def packet(self, old: bytes | None, heading: Heading, planes: Sequence[np.ndarray]) -> bytes:
        """The packet that shows `planes` (Y, U, V, whole coded size) in place of `old`.

        Delimiters and parameter sets of the old packet are kept.
        """
        kept = [u.data for u in split(old or b"", self._prefix)
                if u.whole and u.data and u.data[0] & 31 in (SPS_UNIT, PPS_UNIT, DELIMITER_UNIT)]
        number = self._free_set()
        sets = pcm_pps(number, heading.sps.id, heading.pps.bottom_poc)
        picture = pcm_slice(heading.header, heading.sps, heading.pps, planes, number)
        return join([*kept, sets, picture], self._prefix)

    def _free_set(self) -> int:
        return next(n for n in range(255, -1, -1) if n not in self.sets.pps)
