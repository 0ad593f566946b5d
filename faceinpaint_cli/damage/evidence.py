"""Which pictures of a video are damaged, as far as the bitstream and its decoder tell.

One pass over the whole file decodes and keeps no picture: corrupt flags, errors, pictures
that never come out, gaps in time. It costs little more than plain decoding, and where it finds nothing the
file is clean. Groups with signs of damage are then decoded once more without threads, where each message of
the decoder belongs to the packet just given: which coded picture is hit (an onset), and how many macroblocks
the decoder made up. Damage spreads from the onset to the next picture that starts a group.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from faceinpaint_cli.damage.audio import damaged_sound
from faceinpaint_cli.damage.decoder_log import decode_logged, listening
from faceinpaint_cli.damage.gaps import CodedPicture, Missing, missing_pictures, packets_after_gaps
from faceinpaint_cli.damage.other_video import damaged_other_video
from faceinpaint_cli.damage.references import Absent, absent_references
from faceinpaint_cli.damage.unread import unread_pictures
from faceinpaint_cli.errors import InputError
from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.av1_order import Av1Order
from faceinpaint_cli.media.broken_off import broken_off
from faceinpaint_cli.media.h264_headers import ParameterSets, SliceHeader, Sps, is_slice, predicts
from faceinpaint_cli.media.h264_nal import length_size, split
from faceinpaint_cli.media.hevc_headers import LEADING, Header, HevcHeaders
from faceinpaint_cli.media.mpeg4_headers import Mpeg4Headers, Vop
from faceinpaint_cli.media.picture_order import Mpeg2Order, Order
from faceinpaint_cli.media.planes import plane_array
from faceinpaint_cli.media.untimed import timed
from faceinpaint_cli.media.video_index import open_video, video_stream

if TYPE_CHECKING:
    from faceinpaint_cli.damage.watch import Watch

log = logging.getLogger(__name__)

SILENT_CODECS = frozenset(("hevc", "vp9", "vp8", "av1", "mjpeg"))
"""Codecs whose decoders mark no frame as corrupt: asked to fail on errors instead, which is counted."""
ONE_FRAME_EACH = frozenset(("h264", "hevc", "mpeg1video", "mpeg2video", "mjpeg", "av1"))
"""Codecs whose packets each give a frame, if they have a time (others have packets that show nothing)."""
UNFILTERED = {"skip_loop_filter": "all"}
"""Nothing that is read from a stream hangs on its pictures being smoothed; in H.264 that is a quarter of the work."""
MPEG_1_2 = frozenset(("mpeg1video", "mpeg2video"))
WATCHED = frozenset(("hevc",))
"""Codecs whose pictures are looked at: their decoders read on in what is damaged, and what is seen can be mended."""
UNTIMED = 1 << 61
"""Packets that have no time (raw streams) are given this and their number, to know their frames by."""
ADAPTIVE = frozenset(("vp9", "av1"))
"""Codecs whose pictures are read with probabilities that those before leave: one that is lost makes others fail."""
MARKED, LOOKS, NO_FRAME = "frame marked corrupt", "looks damaged", "no frame comes out"
SURVEYED_BYTES = 4096
"""Enough of a packet to reach its first slice header past parameter sets and supplemental information."""


@dataclass(frozen=True)
class Onset:
    """A coded picture that is hit: `packet` its number in decoding order, `concealed` how many macroblocks
    the decoder made up (None where it does not say), `first_error` the macroblock (column, row) where it
    noticed, `signs` what speaks for it. `order` is the order count that others refer to it by, where its own
    header is lost and that is known (HEVC): nothing of it is left then."""

    packet: int
    pts: int | None
    concealed: int | None
    first_error: tuple[int, int] | None
    signs: tuple[str, ...]
    order: int | None = None


@dataclass(frozen=True)
class Group:
    """Packets `first` to `last` (exclusive) from one keyframe to the next that stands alone."""

    first: int
    last: int
    onsets: tuple[Onset, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def damaged(self) -> bool:
        return bool(self.onsets or self.missing)


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a video's damage; `groups` cover all packets of the first video stream in order, `notes` are
    sentences on what is not repaired."""

    path: str
    codec: str
    time_base: Fraction
    pictures: tuple[CodedPicture, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def damaged(self) -> bool:
        return any(group.damaged for group in self.groups)

    @property
    def times(self) -> list[int]:
        """Time stamps of all pictures that the file should show, in order, missing ones put back."""
        known = {p.pts for p in self.pictures if p.pts is not None and not p.discard}
        return sorted(known | {m.pts for g in self.groups for m in g.missing})

    def damaged_times(self) -> set[int]:
        """Time stamps of all shown pictures that are hit or may refer to a hit one."""
        hurt: set[int] = set()
        for number, group in enumerate(self.groups):
            if not group.damaged:
                continue
            start = min([o.packet for o in group.onsets] + [m.before for m in group.missing])
            hurt.update(m.pts for m in group.missing)
            hurt.update(p.pts for p in self.pictures[start : group.last] if p.pts is not None and not p.discard)
            if number + 1 < len(self.groups):
                following = self.groups[number + 1]
                key = self.pictures[following.first].pts
                if key is not None:  # leading pictures of an open group refer back
                    hurt.update(p.pts for p in self.pictures[following.first : following.last]
                                if p.pts is not None and p.pts < key)
        return hurt

    @property
    def frames_damaged(self) -> int:
        """How many pictures are hit or may refer to a hit one; without times, those from the first hit one of a group
        on."""
        if any(p.pts is not None for p in self.pictures):
            return len(self.damaged_times())
        return sum(group.last - group.onsets[0].packet for group in self.groups if group.onsets)

    def ranges(self) -> list[tuple[Fraction, Fraction]]:
        """Damaged stretches of time, (from, to) in seconds."""
        hurt, times = self.damaged_times(), self.times
        steps = Counter(b - a for a, b in pairwise(times))
        usual = steps.most_common(1)[0][0] if steps else 1
        ranges: list[tuple[Fraction, Fraction]] = []
        for i, time in enumerate(times):
            if time not in hurt:
                continue
            end = (times[i + 1] if i + 1 < len(times) else time + usual) * self.time_base
            if ranges and i and times[i - 1] in hurt:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((time * self.time_base, end))
        return ranges

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the report."""
        onsets = [o for g in self.groups for o in g.onsets]
        missing = [m for g in self.groups for m in g.missing]
        return {
            "codec": self.codec,
            "damaged": self.damaged,
            "frames": len(self.times) or len(self.pictures),
            "frames_damaged": self.frames_damaged,
            "groups": len(self.groups),
            "groups_damaged": sum(g.damaged for g in self.groups),
            "ranges": [[timecode(a), timecode(b)] for a, b in self.ranges()],
            "onsets": [{"packet": o.packet, "time": timecode((o.pts or 0) * self.time_base),
                        "macroblocks_concealed": o.concealed, "signs": list(o.signs)} for o in onsets],
            "missing": [timecode(m.pts * self.time_base) for m in missing],
            "notes": list(self.notes),
        }


def timecode(seconds: Fraction) -> str:
    """h:mm:ss.mmm"""
    millis = round(seconds * 1000)
    sign, (whole, millis) = "-" if millis < 0 else "", divmod(abs(millis), 1000)
    return f"{sign}{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}.{millis:03d}"


def diagnose(path: Path | str, lacks: bool = False) -> Diagnosis:
    """Look for damage in the video stream of a file that is repaired; one of which it is known that it `lacks` parts
    has lost what is missing in time.

    Raises InputError where the file cannot be opened, has no video or no decoder.
    """
    path = Path(path)
    with open_video(path) as container:
        stream = video_stream(container, path)
        codec, time_base = stream.codec_context.codec.canonical_name, stream.time_base
        survey = _survey(container, stream, path)
    if not survey.pictures:
        raise InputError(f"{path}: expected a video, its video stream holds no picture; get the file again")
    groups = _groups(survey.pictures)
    absent = _absent(survey, groups) if codec == "hevc" else []
    missing = missing_pictures(survey.pictures, survey.slices, survey.headers, survey.signs.keys(), lacks,
                               codec in ADAPTIVE)
    missing = _with_absent(missing, absent)
    for gap in missing:
        survey.signs.setdefault(min(gap.before, len(survey.pictures) - 1), []).append("picture missing")
    if all(p.pts is None for p in survey.pictures):
        for number in packets_after_gaps(survey.slices):
            survey.sign(number, "pictures before it are missing")
    if survey.signs and codec == "h264":  # a whole file need not be searched for what its decoder does not notice
        behind_whole_ones = {gap.before - 1 for gap in missing}  # their data may be what is left of a missing picture
        for number in set(unread_pictures(path)) - behind_whole_ones:
            survey.sign(number, "its slice ends before its data")
    suspected = [g for g in groups if any(g.first <= i < g.last for i in survey.signs)]
    behind = _behind_gaps(groups, missing)
    onsets = _examine(path, survey, suspected, codec, behind) if suspected else []
    counts = {a.packet: a.count for a in absent}
    onsets = [replace(o, order=counts.get(o.packet)) for o in onsets]
    placed = [Group(g.first, g.last, tuple(o for o in onsets if g.first <= o.packet < g.last),
                    tuple(m for m in missing if g.first < m.before <= g.last)) for g in groups]
    found = Diagnosis(str(path), codec, time_base, tuple(survey.pictures), tuple(placed))
    return replace(found, notes=(*broken_off(path), *damaged_other_video(path),
                                 *(damaged_sound(path) if found.damaged else ())))


def _absent(survey: _Survey, groups: Sequence[Group]) -> list[Absent]:
    """HEVC pictures that are not there. The decoder marks those that refer to them, which look damaged too: whole
    ones, whose signs are taken back."""
    headers = [h if isinstance(h, Header) else None for h in survey.headers]
    absent, stray = absent_references(survey.pictures, headers)
    for number, header in enumerate(headers):
        if header is None or header.keeps is None:
            continue
        signs = survey.signs.get(number, [])
        if MARKED in signs:
            signs.remove(MARKED)
        if LOOKS in signs:
            place = next(n for n, g in enumerate(groups) if g.first <= number < g.last)
            first = groups[max(0, place - (header.kind in LEADING))].first  # those refer to the group before as well
            if any(first <= a.before <= number for a in absent):
                signs.remove(LOOKS)
        if number in stray:
            signs.append("what it refers to is missing")
        if not signs:
            survey.signs.pop(number, None)
    return absent


def _with_absent(missing: Sequence[Missing], absent: Sequence[Absent]) -> list[Missing]:
    """The missing pictures, those that others refer to in the place that these tell."""
    left, found = list(missing), []
    for picture in (a for a in absent if a.packet is None):
        same = min(left, key=lambda m: abs(m.pts - picture.pts), default=None)
        if same is not None and abs(same.pts - picture.pts) <= picture.tolerance:
            left.remove(same)
        else:
            same = None
        found.append(Missing(picture.before, (same or picture).pts, picture.count))
    return sorted([*left, *found], key=lambda m: m.before)


@dataclass
class _Survey:
    pictures: list[CodedPicture] = field(default_factory=list)
    slices: list[tuple[SliceHeader, Sps] | None] = field(default_factory=list)
    headers: list[Order | Header | Vop | None] = field(default_factory=list)
    signs: dict[int, list[str]] = field(default_factory=dict)

    def sign(self, packet: int, what: str) -> None:
        self.signs.setdefault(packet, []).append(what)


def _survey(container: av.container.InputContainer, stream: av.VideoStream, path: Path) -> _Survey:
    """Decode everything once, keeping only what speaks of damage.

    Without threads where the decoder marks corrupt frames: with frame threads a frame may be given out before its
    mark is set, and now and then a damaged picture passed for clean.
    """
    survey, codec = _Survey(), stream.codec_context.codec.canonical_name
    threads = codec in SILENT_CODECS
    context = tolerant.open_decoder(stream, threads)
    context.options = UNFILTERED | ({"err_detect": "explode"} if codec in SILENT_CODECS else {})
    prefix = length_size(codec, context.extradata) if codec in ("h264", "hevc") else 0
    sets = ParameterSets.from_extradata(context.extradata) if codec == "h264" else None
    counted = _counter(codec, context.extradata, prefix)
    shown: set[int] = set()
    corrupt: set[int] = set()
    undecoded: set[int] = set()
    broken = False
    times: list[int | None] = []
    order: dict[int, int] = {}
    watch = _watch(order) if codec in WATCHED else None

    def packets() -> Iterator[av.Packet]:
        try:
            for packet in timed(container.demux(stream), container):
                if packet.size:
                    times.append(packet.pts)
                    if packet.pts is None:
                        packet.pts = UNTIMED + len(times) - 1
                    yield packet
        except av.FFmpegError as error:
            log.warning("%s: reading stopped at packet %d (%s)", path, len(survey.pictures), error)

    for packet, frames, error in tolerant.decode(context, packets()):
        number = len(survey.pictures)
        if packet is not None:
            refreshes = False
            if sets is not None:
                survey.slices.append(_first_slice(bytes(packet), prefix, sets))
                if survey.slices[-1] is None:
                    survey.sign(number, "no readable slice header")
                refreshes = packet.is_keyframe and predicts(split(bytes(packet), prefix), sets)
            if counted is not None:
                survey.headers.append(counted(memoryview(packet)))
            survey.pictures.append(CodedPicture(number, times[number], packet.dts, packet.duration or 0,
                                                packet.is_keyframe, packet.is_discard, refreshes))
            assert packet.pts is not None
            order[packet.pts] = number
            if packet.is_corrupt:
                survey.sign(number, "container says corrupt")
        if error is not None:
            broken = True
            earliest = max(0, number - (context.thread_count or 1)) if threads else number
            for late in range(earliest, min(number + 1, len(survey.pictures))):
                survey.sign(late, "decoder fails")
        for frame in frames:
            if frame.pts is not None:
                shown.add(frame.pts)
                if frame.is_corrupt:
                    corrupt.add(frame.pts)
                if watch is not None:
                    watch.see(frame)
                if codec == "hevc" and _ends_in_nothing(frame):
                    undecoded.add(frame.pts)
    _read_signs(survey, codec, shown, corrupt, broken)
    for picture in survey.pictures:  # later ones only show what they refer to
        if picture.keyframe and _stamp(picture) in undecoded:
            survey.sign(picture.index, "its end was never decoded")
    for number in _first_seen([order[time] for time in watch.hit] if watch else [], survey):
        survey.sign(number, LOOKS)
    return survey


def _counter(codec: str, extradata: bytes | None,
             prefix: int) -> Callable[[memoryview], Order | Header | Vop | None] | None:
    """What reads a packet's header for `missing_pictures`; None for codecs whose headers tell nothing."""
    if codec == "av1":  # shown pictures may stand behind large ones
        return Av1Order(extradata).of
    if codec == "hevc":
        of: Callable[[bytes], Order | Header | Vop | None] = HevcHeaders(extradata, prefix).of
    elif codec in MPEG_1_2:
        of = Mpeg2Order().of
    elif codec == "mpeg4":
        of = Mpeg4Headers(extradata).of
    else:
        return None
    return lambda packet: of(bytes(packet[:SURVEYED_BYTES]))


def _first_seen(hit: Iterable[int], survey: _Survey) -> list[int]:
    """Of pictures that look damaged those that nothing else explains: no sign stands at an earlier picture of their
    group. (For keyframes the watch itself tells whether it is them or what was before.)"""
    groups, found = _groups(survey.pictures), []
    for number in hit:
        group = next(g for g in groups if g.first <= number < g.last)
        if not any(group.first <= sign < number for sign in survey.signs):
            found.append(number)
    return found


def _watch(order: dict[int, int]) -> Watch:
    from faceinpaint_cli.damage.watch import Watch  # with OpenCV, for which a clean file need not wait

    return Watch(order)


def _ends_in_nothing(frame: av.VideoFrame) -> bool:
    """Whether the last samples of all planes are zero: memory that no block was written to. In Y'CbCr that is a
    bright green, far outside of what is ever coded; a decoder whose data end too early says nothing of it."""
    return len(frame.planes) == 3 and not any(plane_array(frame, i)[-4:, -8:].any() for i in range(3))


def _read_signs(survey: _Survey, codec: str, shown: set[int], corrupt: set[int], broken: bool) -> None:
    """Turn what came out of the decoder into signs at packets.

    Pictures before the first keyframe, or shown before it, are no evidence: a recording may begin anywhere. Where there
    is none at all, most pictures of a stream that lost it are marked, or do not come out.
    """
    first = next((p for p in survey.pictures if p.keyframe), None)
    if first is None:
        if 2 * len(corrupt) >= len(shown):  # else it refreshes itself bit by bit
            survey.sign(0, "no keyframe")
        return
    for picture in survey.pictures[first.index :]:
        if picture.discard or _stamp(picture) < _stamp(first):
            continue
        if _stamp(picture) in corrupt:
            survey.sign(picture.index, MARKED)
        if _stamp(picture) not in shown and (broken or (codec in ONE_FRAME_EACH and picture.pts is not None)):
            survey.sign(picture.index, NO_FRAME)


def _stamp(picture: CodedPicture) -> int:
    """What the survey's decoder was told as the picture's time."""
    return UNTIMED + picture.index if picture.pts is None else picture.pts


def _first_slice(packet: bytes, prefix: int, sets: ParameterSets) -> tuple[SliceHeader, Sps] | None:
    """Header of the packet's first readable slice; parameter sets on the way are remembered."""
    for unit in split(packet[:SURVEYED_BYTES] if prefix else packet, prefix):
        if not unit.data:
            continue
        if not is_slice(unit):
            sets.take(unit.data)
            continue
        try:
            header = sets.slice_header(unit.data)
        except ValueError:
            return None
        return header, sets.sps_of(header)
    return None


def _groups(pictures: Sequence[CodedPicture]) -> list[Group]:
    edges = sorted({0, len(pictures), *(p.index for p in pictures if p.starts)})
    return [Group(a, b) for a, b in pairwise(edges)]


def _behind_gaps(groups: Sequence[Group], missing: Sequence[Missing]) -> set[int]:
    """Packets of groups behind pictures that are missing there. Once these are put back they come out: now their order
    counts, which are written without their upper bits, may pass for those of pictures before the gap."""
    return {i for g in groups for m in missing if g.first < m.before < g.last for i in range(m.before, g.last)}


def _examine(path: Path, survey: _Survey, suspected: Sequence[Group], codec: str, behind: Set[int]) -> list[Onset]:
    """Decode the suspected groups again, packet by packet with the decoder's messages; name the onsets. Packets
    `behind` gaps are none for want of a frame alone."""
    onsets: list[Onset] = []
    wanted = {i for g in suspected for i in range(g.first, g.last)}
    heard = codec in ("h264", "mpeg4", "mpeg1video", "mpeg2video")
    with open_video(path) as container, listening():
        stream = video_stream(container, path)
        context: av.VideoCodecContext | None = None
        for number, packet in enumerate(p for p in timed(container.demux(stream), container) if p.size):
            if number not in wanted:
                context = None
                continue
            if context is None:
                context = tolerant.open_decoder(stream, threads=False)
                if codec in SILENT_CODECS:
                    context.options = {"err_detect": "explode"}
            _, error, said = decode_logged(context, packet)
            signs = list(dict.fromkeys(survey.signs.get(number, [])))
            if "decoder fails" in signs:  # the survey blames a few packets around it
                signs.remove("decoder fails")
            if "picture missing" in signs:
                signs.remove("picture missing")
            if error is not None:
                signs.append(f"decoder fails: {type(error).__name__}")
            if heard and said.concealed:
                signs.append("macroblocks concealed")
            if heard and said.first_error:
                signs.append("error in a macroblock")
            if number in behind and error is None and not said.errors and NO_FRAME in signs:
                signs.remove(NO_FRAME)
            if heard and signs == ["container says corrupt"] and not said.errors:
                continue  # what was lost belongs to a packet beside it: this one is decoded without a word
            if signs:
                onsets.append(Onset(number, packet.pts, said.concealed, said.first_error, tuple(signs)))
    return onsets
