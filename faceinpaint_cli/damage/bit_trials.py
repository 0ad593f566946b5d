"""Which single bit of a damaged H.264 packet is wrong, proved by decoding: with that bit turned the slice must decode
to its last byte, and the picture must follow from the one before it.

A wrong bit puts the entropy decoder out of step, which it notices some ten to some hundred bytes on. So the bits before
that place are turned one after the other; nearly all make an error again, or leave bytes over. Trial slices are made
ones that no other refers to, so that one decoder can try thousands. Of those few that decode to the end the picture
tells: after any other than the true one it is garbage from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

import av
import numpy as np

from faceinpaint_cli.damage.blocks import block_steps
from faceinpaint_cli.damage.decoder_log import Messages, decode_logged, listening
from faceinpaint_cli.damage.evidence import Diagnosis
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.h264_expendable import expendable
from faceinpaint_cli.media.h264_headers import ParameterSets, Sps, is_slice
from faceinpaint_cli.media.h264_nal import join, length_size, split
from faceinpaint_cli.media.h264_substitute import Substituter
from faceinpaint_cli.media.optical_flow import eight_bit, left_over, quick_flow
from faceinpaint_cli.media.planes import luma_array
from faceinpaint_cli.media.video_index import open_video, video_stream

REACH = 1024
"""Bytes before the place where the error is noticed that are tried: of 42 errors the farthest was noticed 377 bytes
after its bit."""
TAIL = 100
"""So many bytes must follow that place. Without, a false bit passes too often: what is left of a slice that lost its
end decodes with one of them as if it ended there."""
SECONDS, FAILURES = 1.0, 3
"""A packet is given up after so long, a file after so many packets in a row: what lost whole bytes cannot be mended
this way, and is damaged alike in each place."""
LONGER = 4.0
"""Seconds for a packet where a bit of another is proved wrong: then it is worth it."""
CUTS = (6, 9, 14)
"""Cut by one of these numbers of bytes a whole slice does not decode. (A decoder reads ahead, and in what it then
makes of nothing may see an end.)"""
MOST_CANDIDATES = 100
STEPS, KEY_STEPS = 0.27, 0.77
"""The picture may have block steps so much above those of the picture before it, a keyframe so much. Of 105 true bits
in four clips 2 gave more; of 14 false ones with as long a tail, in slices that lost 100 or 500 bytes, all did."""
STRICT = {"err_detect": "explode+aggressive", "ec": "0", "skip_loop_filter": "all"}
GREY = 128
AHEAD = 2
"""Bytes that a CABAC decoder may have read beyond what it decodes."""
OTHERS = (b"\x55", b"\xa7", b"\x19")
"""Three other continuations: with one the decoder may by chance stop at the same macroblock, many errors are only
noticed in the first of a row."""

@dataclass(frozen=True)
class WrongBit:
    """Bit `bit` (0 the lowest) of byte `byte` of a packet that is shown at `pts`; `sure` where enough of the slice
    follows it to prove it."""

    packet: int
    pts: int
    byte: int
    bit: int
    sure: bool


def find_wrong_bits(diagnosis: Diagnosis) -> list[WrongBit]:
    """The bits that are wrong in the hit packets of an H.264 file; none for other codecs.

    Where one is proved the file has single wrong bits, and those near the ends of slices are looked for as well.
    """
    hit = {o.packet for g in diagnosis.groups for o in g.onsets}
    if diagnosis.codec != "h264" or not hit:
        return []
    with listening():
        found = {w.packet: w for w in _search(diagnosis, hit, {})}
        if found and len(found) < len(hit):
            found |= {w.packet: w for w in _search(diagnosis, hit - found.keys(), found)}
    return [found[number] for number in sorted(found)]


def turned(data: bytes, byte: int, bit: int) -> bytes:
    """The data with one bit turned."""
    changed = bytearray(data)
    changed[byte] ^= 1 << bit
    return bytes(changed)


def _search(diagnosis: Diagnosis, hit: Set[int], known: Mapping[int, WrongBit]) -> Iterator[WrongBit]:
    """The wrong bits in the packets `hit`; those that are `known` are set right on the way."""
    starts = {g.first for g in diagnosis.groups}
    failures = 0
    with open_video(Path(diagnosis.path)) as container:
        stream = video_stream(container, Path(diagnosis.path))
        prefix = length_size("h264", stream.codec_context.extradata)
        substituter = Substituter(stream.codec_context.extradata)
        sets = ParameterSets.from_extradata(stream.codec_context.extradata)
        past = _Past()
        for number, packet in enumerate(p for p in container.demux(stream) if p.size):
            if number in starts:
                past = _Past(earlier=past.shown)
            for unit in split(bytes(packet), prefix):
                if unit.data and not is_slice(unit):
                    sets.take(unit.data)
            wrong, heading = known.get(number), substituter.heading(bytes(packet))
            if number in hit and packet.pts is not None:
                place = _Trials(stream, sets, past, packet).wrong_bit(0 if known else TAIL)
                failures = 0 if place else failures + 1
                if place:
                    wrong = WrongBit(number, packet.pts, *place, sure=not known)
                    yield wrong
                elif failures == FAILURES and not known:
                    return
            if wrong:
                packet = _with_data(packet, turned(bytes(packet), wrong.byte, wrong.bit))
            past.shown.append(packet)
            past.intact.append(packet)
            past.sound += past.sound == len(past.shown) - 1 and (number not in hit or wrong is not None)
            if number in hit and not wrong and heading is not None and substituter.refusal(heading) is None:
                grey = substituter.packet(bytes(packet), heading, _grey(heading.sps))
                past.intact[-1] = _with_data(packet, grey)


@dataclass
class _Past:
    """The packets of a group so far. In `intact` those that could not be set right are grey pictures, so that a strict
    decoder has all that others refer to; `shown` are as they are, and `earlier` those of the group before. The first
    so many are `sound`: beside garbage other garbage does not stand out."""

    intact: list[av.Packet] = field(default_factory=list)
    shown: list[av.Packet] = field(default_factory=list)
    earlier: list[av.Packet] = field(default_factory=list)
    sound: int = 0


@dataclass(frozen=True)
class _Slice:
    """Slice number `unit` of a packet's units; a bit of it can be tried from byte `start` on, `stripped` makes it one
    that no other refers to, `decodes` says whether the decoder finds no fault with such a one."""

    unit: int
    start: int
    stripped: Callable[[bytes], bytes]
    decodes: Callable[[bytes], bool]

    def is_whole(self, data: bytes) -> bool:
        """Whether it decodes, and that to its last byte."""
        return self.decodes(data) and not all(self.decodes(data[:-cut]) for cut in CUTS)


class _Trials:
    """Trials on one packet, which comes after those of the `past`."""

    def __init__(self, stream: av.VideoStream, sets: ParameterSets, past: _Past, packet: av.Packet) -> None:
        self._stream, self._sets, self._past, self._packet = stream, sets, past, packet
        self._prefix = length_size("h264", stream.codec_context.extradata)
        self._units = [unit.data for unit in split(bytes(packet), self._prefix) if unit.data]

    def wrong_bit(self, tail: int) -> tuple[int, int] | None:
        """(byte of the packet, bit), or None where no single bit explains the damage, or fewer bytes of the slice than
        `tail` follow the place where it is noticed."""
        strict = self._decoder(self._past.intact, STRICT)
        try:
            slices = [self._slice(n, strict) for n, unit in enumerate(self._units) if is_slice(unit)]
        except ValueError:  # a header that cannot be read
            return None
        broken = [s for s in slices if not s.is_whole(self._units[s.unit])]
        if len(broken) > 1:
            return None
        for suspect in broken or slices:
            found = self._in_slice(suspect, tail)
            if found:
                place = 0
                for unit in self._units[: suspect.unit]:
                    place = bytes(self._packet).index(unit, place) + len(unit)
                return bytes(self._packet).index(self._units[suspect.unit], place) + found[0], found[1]
        return None

    def _slice(self, number: int, strict: av.VideoCodecContext) -> _Slice:
        start, stripped = expendable(self._units[number], self._sets)
        return _Slice(number, start, stripped,
                      lambda data: tolerant.decode_one(strict, self._as_packet(stripped(data)))[1] is None)

    def _decoder(self, packets: Sequence[av.Packet], options: dict[str, str] | None = None) -> av.VideoCodecContext:
        """A decoder that was given these packets."""
        context = tolerant.open_decoder(self._stream, threads=False)
        context.options = options or {}
        for packet in packets:
            tolerant.decode_one(context, packet)
        return context

    def _in_slice(self, suspect: _Slice, tail: int) -> tuple[int, int] | None:
        data = self._units[suspect.unit]
        end, until = self._noticed(suspect), perf_counter() + (SECONDS if tail else LONGER)
        if len(data) - end < tail:
            return None
        candidates: list[tuple[int, int]] = []
        for byte in range(end - 1, max(suspect.start, end - REACH) - 1, -1):
            candidates += [(byte, bit) for bit in range(8) if suspect.is_whole(turned(data, byte, bit))]
            if perf_counter() > until or len(candidates) > MOST_CANDIDATES:
                break
        return self._best(suspect, candidates) if candidates else None

    def _noticed(self, suspect: _Slice) -> int:
        """The byte of the slice before which the decoder has noticed the error: whatever comes from there on, it says
        the same."""
        data, context = self._units[suspect.unit], self._decoder(self._past.shown)

        def said(changed: bytes) -> Messages:
            messages = decode_logged(context, self._as_packet(suspect.stripped(changed)))[2]
            return replace(messages, errors=[])

        own, low, high = said(data), suspect.start, len(data)
        if own.unread is not None:
            return min(len(data), len(data) - own.unread + AHEAD)
        while high - low > 4:
            middle = (low + high) // 2
            if all(said(data[:middle] + other * (len(data) - middle)) == own for other in OTHERS):
                high = middle
            else:
                low = middle
        return min(len(data), high + AHEAD)

    def _best(self, suspect: _Slice, candidates: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
        """Of bits with which the slice decodes, the one whose picture follows best from the one before it; None where
        that looks like garbage too."""
        before, sound = self._picture_before(), self._picture_before(self._past.sound)
        allowed = KEY_STEPS if self._packet.is_keyframe else STEPS
        allowed += block_steps(sound) if sound is not None else 0
        best: tuple[float, tuple[int, int]] | None = None
        for number, luma in self._pictures(suspect, candidates):
            steps, unlike = block_steps(luma), 0.0
            if before is not None and before.shape == luma.shape:
                unlike = float(left_over(luma, before, quick_flow(luma, before)).mean())
            if steps <= allowed and (best is None or steps + unlike < best[0]):
                best = steps + unlike, candidates[number]
        return best[1] if best else None

    def _picture_before(self, packets: int | None = None) -> np.ndarray | None:
        """Luma (HW uint8) of the picture shown before this one, or of those of the first so many packets of the
        group."""
        context = self._decoder(())
        nearest: av.VideoFrame | None = None
        for packet in [*self._past.earlier, *self._past.shown[:packets], None]:
            for frame in tolerant.decode_one(context, packet)[0]:
                time = frame.pts
                if time is not None and time < self._packet.pts and (nearest is None or time > (nearest.pts or 0)):
                    nearest = frame
        return None if nearest is None else eight_bit(luma_array(nearest))

    def _pictures(self, suspect: _Slice, candidates: Sequence[tuple[int, int]]) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the candidate, luma HW uint8) of the picture with each of the bits turned, where the decoder finds
        no fault with it."""
        units = [expendable(u, self._sets)[1](u) if is_slice(u) else u for u in self._units]
        context = self._decoder(self._past.shown)
        whole: set[int | None] = set()
        first = 1 << 60  # no time of a file
        for number in [*range(len(candidates)), None]:
            if number is None:
                frames = tolerant.decode_one(context, None)[0]
            else:
                units[suspect.unit] = suspect.stripped(turned(self._units[suspect.unit], *candidates[number]))
                trial = av.Packet(join(units, self._prefix))
                trial.pts = first + number
                frames, error, said = decode_logged(context, trial)
                if error is None and not said.errors and not said.concealed:
                    whole.add(trial.pts)
            for frame in frames:
                if frame.pts in whole:
                    yield frame.pts - first, eight_bit(luma_array(frame))

    def _as_packet(self, unit: bytes) -> av.Packet:
        packet = av.Packet(join([unit], self._prefix))
        packet.pts = packet.dts = self._packet.pts
        return packet


def _grey(sps: Sps) -> list[np.ndarray]:
    height, width = sps.mb_height, sps.mb_width
    sizes = ((16, 16), sps.chroma_size, sps.chroma_size)
    bits = (sps.luma_bits, sps.chroma_bits, sps.chroma_bits)
    return [np.full((height * h, width * w), GREY << depth - 8, np.uint8 if depth == 8 else np.uint16)
            for (h, w), depth in zip(sizes, bits, strict=True)]


def _with_data(packet: av.Packet, data: bytes) -> av.Packet:
    changed = av.Packet(data)
    changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
    changed.is_keyframe = packet.is_keyframe
    return changed
