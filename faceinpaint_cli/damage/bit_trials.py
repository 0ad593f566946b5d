"""Which bits of a damaged H.264 packet are wrong, proved by decoding: with them turned the slice must decode to its
last byte, and the picture must follow from the one before it.

A wrong bit puts the entropy decoder out of step, which it notices some ten to some hundred bytes on. So the bits before
that place are turned one after the other; nearly all make an error again, or leave bytes over. Trial slices are made
ones that no other refers to, so that one decoder can try thousands. Of those few that decode to the end the picture
tells: after any other than the true one it is garbage from there on. Where none does, those with which the decoder
stays in step longest, without garbage, are kept, and the next wrong bit is looked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import av
import numpy as np

from faceinpaint_cli.damage.blocks import block_steps
from faceinpaint_cli.damage.decoder_log import Messages, decode_logged, listening
from faceinpaint_cli.damage.evidence import Diagnosis
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.h264_expendable import expendable
from faceinpaint_cli.media.h264_headers import ParameterSets, is_slice
from faceinpaint_cli.media.h264_nal import join, length_size, split
from faceinpaint_cli.media.h264_pcm import grey
from faceinpaint_cli.media.h264_substitute import Substituter
from faceinpaint_cli.media.optical_flow import eight_bit, left_over, quick_flow
from faceinpaint_cli.media.planes import luma_array
from faceinpaint_cli.media.turned_bits import Bit, turned
from faceinpaint_cli.media.video_index import open_video, video_stream
from faceinpaint_cli.media.video_reader import read_packets, with_data

log = logging.getLogger(__name__)

REACH, FARTHER = 1024, 2048
"""Bytes before the place where the error is noticed that are tried, and where a bit of another packet is proved wrong:
of 42 errors the farthest was noticed 377 bytes after its bit, but in keyframes it can be 2,000."""
PART = 256
"""So many are tried before those that passed are looked at: nearly always the true bit is among the first."""
TAIL = 100
"""So many bytes must follow that place. Without, a false bit passes too often: what is left of a slice that lost its
end decodes with one of them as if it ended there."""
MOST_BYTES, FAILURES = 60_000_000, 4
"""A packet is given up after so many bytes of trials (two seconds or three; counted and not timed, so that the outcome
is the same on every machine), a file after so many packets in a row: what lost whole bytes cannot be mended this way,
and is damaged alike in each place."""
MORE_BYTES, MOST_BITS, FOLLOWED = 100_000_000, 4, 3
"""Where a bit of another packet is proved wrong: bytes of trials for a packet, wrong bits in it, and how many of the
trials that do not end well are followed up."""
IN_STEP, LOOKED_AT = 100, 40
"""A decoder must stay in step for so many bytes more; where no trial ends well, for as many times as it takes until so
few are left that their pictures can be looked at."""
BAND, GARBAGE = 32, 2.5
"""So many rows of a picture are garbage where their block steps are so much above those of the picture before."""
CUTS = (6, 9, 14)
"""Cut by one of these numbers of bytes a whole slice does not decode. (A decoder reads ahead, and in what it then
makes of nothing may see an end.)"""
MOST_CANDIDATES = 100
STEPS, KEY_STEPS = 0.27, 0.77
"""The picture may have block steps so much above those of the picture before it, a keyframe so much. Of 105 true bits
in four clips 2 gave more; of 14 false ones with as long a tail, in slices that lost 100 or 500 bytes, all did."""
AHEAD = 2
"""Bytes that a CABAC decoder may have read beyond what it decodes."""
OTHERS = (b"\x55", b"\xa7", b"\x19")
"""Three other continuations: with one the decoder may by chance stop at the same macroblock, many errors are only
noticed in the first of a row."""


@dataclass(frozen=True)
class WrongBits:
    """Bits of a packet that is shown at `pts`; `sure` where it is one, and enough of the slice follows to prove it."""

    packet: int
    pts: int
    bits: tuple[Bit, ...]
    sure: bool


def find_wrong_bits(diagnosis: Diagnosis) -> list[WrongBits]:
    """The bits that are wrong in the hit packets of an H.264 file; none for other codecs.

    Where one is proved the file has single wrong bits, and those near the ends of slices are looked for as well, and
    several in one slice.
    """
    hit = {o.packet for g in diagnosis.groups for o in g.onsets}
    if diagnosis.codec != "h264" or not hit:
        return []
    with listening():
        found = {w.packet: w for w in _search(diagnosis, hit, {})}
        if found and len(found) < len(hit):
            log.warning("%s: bits are wrong in it; looking for all of them, for up to %d pictures, takes a while",
                        diagnosis.path, len(hit) - len(found))
            found |= {w.packet: w for w in _search(diagnosis, hit - found.keys(), found)}
    return [found[number] for number in sorted(found)]


def _search(diagnosis: Diagnosis, hit: Set[int], known: Mapping[int, WrongBits]) -> Iterator[WrongBits]:
    """The wrong bits in the packets `hit`; those that are `known` are set right on the way."""
    starts = {g.first for g in diagnosis.groups}
    failures = 0
    with open_video(Path(diagnosis.path)) as container:
        stream = video_stream(container, Path(diagnosis.path))
        substituter = Substituter(stream.codec_context.extradata)
        past, lacks = _Past(), False
        for number, packet in enumerate(read_packets(container, stream)):
            if number in starts:
                past = _Past(earlier=past.shown)
            wrong, heading = known.get(number), substituter.heading(bytes(packet))
            # of what lacks bytes, as counters of a transport stream tell (one packet late), no bit is the wrong one
            lacked, lacks = lacks, packet.is_corrupt
            if number in hit and packet.pts is not None and not (lacks or lacked):
                bits = _Trials(stream, substituter.sets, past, packet, proved=bool(known)).wrong_bits()
                failures = 0 if bits else failures + 1
                if bits:
                    wrong = WrongBits(number, packet.pts, bits, sure=not known)
                    yield wrong
                elif failures == FAILURES and not known:
                    return
            if wrong:
                packet = with_data(packet, turned(bytes(packet), wrong.bits))
            past.sound += past.is_sound and (number not in hit or wrong is not None)
            past.shown.append(packet)
            past.intact.append(packet)
            if number in hit and not wrong and heading is not None and substituter.refusal(heading) is None:
                substitute = substituter.packet(bytes(packet), heading, grey(heading.sps))
                past.intact[-1] = with_data(packet, substitute)


@dataclass
class _Past:
    """The packets of a group so far. In `intact` those that could not be set right are grey pictures, so that a strict
    decoder has all that others refer to; `shown` are as they are, and `earlier` those of the group before. The first
    so many are `sound`."""

    intact: list[av.Packet] = field(default_factory=list)
    shown: list[av.Packet] = field(default_factory=list)
    earlier: list[av.Packet] = field(default_factory=list)
    sound: int = 0

    @property
    def is_sound(self) -> bool:
        return self.sound == len(self.shown)


@dataclass(frozen=True)
class _Slice:
    """Slice number `unit` of a packet's units; a bit of it can be tried from byte `start` on, `stripped` makes it one
    that no other refers to, `decodes` says whether the decoder finds no fault with such a one, `said` what it says of
    it."""

    unit: int
    start: int
    cabac: bool
    stripped: Callable[[bytes], bytes]
    decodes: Callable[[bytes], bool]
    said: Callable[[bytes], Messages]

    def is_used_up(self, data: bytes) -> bool:
        """Whether data with which the decoder finds no fault are needed to the last byte. (Of a slice of a few bytes a
        cut leaves no whole header, and so nothing that decodes.)"""
        return not all(len(data) - cut > self.start and self.decodes(data[:-cut]) for cut in CUTS)


class _Trials:
    """Trials on one packet, which comes after those of the `past`; `proved` where the file is known to have single
    wrong bits."""

    def __init__(self, stream: av.VideoStream, sets: ParameterSets, past: _Past, packet: av.Packet,
                 proved: bool) -> None:
        self._stream, self._sets, self._past, self._packet = stream, sets, past, packet
        self._prefix = length_size("h264", stream.codec_context.extradata)
        self._units = [unit.data for unit in split(bytes(packet), self._prefix) if unit.data]
        # beside garbage less can be told: there only single bits with enough behind them are looked for, and where
        # nothing is proved garbage must not excuse garbage
        far = proved and past.is_sound
        self._likened_to = len(past.shown) if proved else past.sound
        self._tail, self._most, self._reach = (0, MOST_BITS, FARTHER) if far else (TAIL, 1, REACH)
        self._left = MORE_BYTES if far else MOST_BYTES
        self._kept = self._left // 4  # for those trials that the others leave

    def wrong_bits(self) -> tuple[Bit, ...]:
        """The bits of the packet; none where they do not explain the damage."""
        strict = self._decoder(self._past.intact, tolerant.STRICT)
        try:
            slices = [self._slice(n, strict) for n, unit in enumerate(self._units) if is_slice(unit)]
        except ValueError:  # a header that cannot be read
            return ()
        broken = [s for s in slices
                  if not s.decodes(self._units[s.unit]) or not s.is_used_up(self._units[s.unit])]
        if len(broken) > 1:
            return ()
        for suspect in broken or slices:
            found = self._in_slice(suspect, ())
            if found:
                place = 0
                for unit in self._units[: suspect.unit]:
                    place = bytes(self._packet).index(unit, place) + len(unit)
                place = bytes(self._packet).index(self._units[suspect.unit], place)
                return tuple((place + byte, bit) for byte, bit in found)
        return ()

    def _slice(self, number: int, strict: av.VideoCodecContext) -> _Slice:
        start, stripped = expendable(self._units[number], self._sets)
        cabac = self._sets.pps[self._sets.slice_header(self._units[number]).pps].cabac
        return _Slice(number, start, cabac, stripped,
                      lambda data: tolerant.decode_one(strict, self._trial(stripped(data)))[1] is None,
                      lambda data: decode_logged(strict, self._trial(stripped(data)))[2])

    def _decoder(self, packets: Sequence[av.Packet], options: dict[str, str] | None = None) -> av.VideoCodecContext:
        """A decoder that was given these packets."""
        context = tolerant.open_decoder(self._stream, threads=False)
        context.options = options or {}
        for packet in packets:
            tolerant.decode_one(context, packet)
        return context

    def _in_slice(self, suspect: _Slice, bits: tuple[Bit, ...]) -> tuple[Bit, ...]:
        """The bits with which the slice is right, these among them; none where there are no such bits."""
        data = turned(self._units[suspect.unit], bits)
        end = self._noticed(suspect, data)
        if len(data) - end < self._tail:
            return ()
        first = max(suspect.start, end - self._reach)
        places: list[Bit] = []
        for last in range(end, first, -PART):
            part = [(byte, bit) for byte in range(last - 1, max(first, last - PART) - 1, -1) for bit in range(8)]
            if suspect.cabac and end + IN_STEP < len(data):
                part = self._in_step(suspect, data, end + IN_STEP, part)
            whole: list[tuple[Bit, ...]] = []
            for place in part:
                changed = turned(data, [place])
                if suspect.decodes(changed) and suspect.is_used_up(changed):
                    whole.append((*bits, place))
                if self._left < 0 or len(whole) > MOST_CANDIDATES:
                    break
            found = self._best(suspect, whole) if whole else ()
            if found:
                return found
            places += part
        if len(bits) + 1 >= self._most or not suspect.cabac:
            return ()
        for upto in range(end + 2 * IN_STEP, len(data), IN_STEP):
            if len(places) <= LOOKED_AT:
                break
            places = self._in_step(suspect, data, upto, places)
        if len(places) > LOOKED_AT:
            return ()
        for candidate in self._cleanest(suspect, [(*bits, place) for place in places]):
            found = self._in_slice(suspect, candidate) if self._left > 0 else ()
            if found:
                return found
        return ()

    def _in_step(self, suspect: _Slice, data: bytes, upto: int, places: Sequence[Bit]) -> list[Bit]:
        """Of `places` those with which a CABAC decoder is in step to byte `upto`: data that break off there are decoded
        to their end and beyond; out of step it stumbles before, or sees an end."""
        return [place for place in places if self._left > self._kept
                and (suspect.said(turned(data, [place])[:upto]).unread or 0) < 0]

    def _cleanest(self, suspect: _Slice, candidates: Sequence[tuple[Bit, ...]]) -> list[tuple[Bit, ...]]:
        """Those with which the picture is without garbage farthest down, as far as it was decoded."""
        before = self._before
        width = next(iter(self._sets.sps.values())).mb_width
        clean: list[tuple[int, tuple[Bit, ...]]] = []
        for number, luma, said in self._pictures(suspect, candidates):
            rows = len(luma) - -(-(said.concealed or 0) // width) * 16
            bands = range(0, rows - BAND + 1, BAND)
            usual = [block_steps(before[y : y + BAND]) if before is not None else 0 for y in bands]
            steps = [block_steps(luma[y : y + BAND]) for y in bands]
            good = next((i for i, (a, b) in enumerate(zip(steps, usual, strict=True)) if a > b + GARBAGE), len(bands))
            clean.append((good, candidates[number]))
        return [bits for _, bits in sorted(clean, reverse=True)[:FOLLOWED]]

    def _noticed(self, suspect: _Slice, data: bytes) -> int:
        """The byte of a slice before which the decoder has noticed the error: whatever comes from there on, it says
        the same."""
        context = self._decoder(self._past.shown)

        def said(changed: bytes) -> Messages:
            messages = decode_logged(context, self._trial(suspect.stripped(changed)))[2]
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

    def _best(self, suspect: _Slice, candidates: Sequence[tuple[Bit, ...]]) -> tuple[Bit, ...]:
        """Of bits with which the slice decodes, those whose picture follows best from the one before it; none where
        that looks like garbage too."""
        before, allowed = self._before, KEY_STEPS if self._packet.is_keyframe else STEPS
        allowed += self._usual_steps
        best: tuple[float, tuple[Bit, ...]] = np.inf, ()
        for number, luma, said in self._pictures(suspect, candidates):
            if said.errors or said.concealed:
                continue
            steps, unlike = block_steps(luma), 0.0
            if before is not None and before.shape == luma.shape:
                unlike = float(left_over(luma, before, quick_flow(luma, before)).mean())
            if steps <= allowed:
                best = min(best, (steps + unlike, candidates[number]))
        return best[1]

    @cached_property
    def _before(self) -> np.ndarray | None:
        """Luma (HW uint8) of the picture shown before this one."""
        return self._last_shown(len(self._past.shown))

    @cached_property
    def _usual_steps(self) -> float:
        """The block steps of the picture that this one is likened to."""
        whole = self._likened_to == len(self._past.shown)
        picture = self._before if whole else self._last_shown(self._likened_to)
        return 0.0 if picture is None else block_steps(picture)

    def _last_shown(self, packets: int) -> np.ndarray | None:
        """Luma (HW uint8) of the picture before this one among those of the group's first so many packets."""
        context = self._decoder(())
        nearest: av.VideoFrame | None = None
        for packet in [*self._past.earlier, *self._past.shown[:packets], None]:
            for frame in tolerant.decode_one(context, packet)[0]:
                time = frame.pts
                if time is not None and time < self._packet.pts and (nearest is None or time > (nearest.pts or 0)):
                    nearest = frame
        return None if nearest is None else eight_bit(luma_array(nearest))

    def _pictures(self, suspect: _Slice,
                  candidates: Sequence[tuple[Bit, ...]]) -> Iterator[tuple[int, np.ndarray, Messages]]:
        """(number of the candidate, luma HW uint8, what was said of it) of the picture with each of these bits turned,
        as far as the decoder shows it."""
        units = [expendable(u, self._sets)[1](u) if is_slice(u) else u for u in self._units]
        context = self._decoder(self._past.shown)
        heard: dict[int, Messages] = {}
        first = 1 << 60  # no time of a file
        for number in [*range(len(candidates)), None]:
            if number is None:
                frames = tolerant.decode_one(context, None)[0]
            else:
                units[suspect.unit] = suspect.stripped(turned(self._units[suspect.unit], candidates[number]))
                trial = av.Packet(join(units, self._prefix))
                trial.pts = first + number
                frames, error, said = decode_logged(context, trial)
                if error is None:
                    heard[number] = said
            for frame in frames:
                if frame.pts is not None and frame.pts - first in heard:
                    yield frame.pts - first, eight_bit(luma_array(frame)), heard[frame.pts - first]

    def _trial(self, unit: bytes) -> av.Packet:
        self._left -= len(unit)
        packet = av.Packet(join([unit], self._prefix))
        packet.pts = packet.dts = self._packet.pts
        return packet
