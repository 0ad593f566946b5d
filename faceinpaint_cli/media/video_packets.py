"""The video packets of an output, in step with the packets of its source: copied, encoded, or some of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import av
import numpy as np

from faceinpaint_cli.media.segments import EncodedPacket, SegmentStore
from faceinpaint_cli.media.smart_render import Joiner, RenderPlan
from faceinpaint_cli.media.video_index import NO_TIME, VideoIndex, decoding_times, reorder_delay
from faceinpaint_cli.media.video_reader import with_data

ALPHA = "matroska_block_additional"
Feed = Callable[["av.Packet | None"], Iterator[av.Packet]]
"""Takes each video packet of the source, then None; gives the packets to be written at that place."""


def copied(source: VideoIndex) -> Feed:
    """Every packet as it is."""
    place = itertools.count()

    def feed(packet: av.Packet | None) -> Iterator[av.Packet]:
        if packet is not None:
            yield _timed(source, packet, next(place))

    return feed


def encoded(source: VideoIndex, plan: RenderPlan, store: SegmentStore, alpha: bool) -> Feed:
    """The encoded segments in place of all packets, one for one, what is left over at the end; with `alpha` each takes
    that of the packet in whose place it stands."""
    frames = written_frames(source, plan, store)
    times = source.shown[frames]
    step = int(np.diff(times).min()) if len(times) > 1 else source.duration_of(0)
    dts = decoding_times(times, max((f.delay for f in store.facts.values()), default=0), step)
    ready = (_packet(source, p, p.data, int(dts[i])) for i, p in enumerate(_encoded_packets(plan, store)))

    def feed(packet: av.Packet | None) -> Iterator[av.Packet]:
        if packet is None:
            yield from ready
        else:
            following = next(ready, None)
            if following is not None:
                yield _with_alpha(following, packet) if alpha else following

    return feed


def joined(source: VideoIndex, plan: RenderPlan, store: SegmentStore, joiner: Joiner) -> Feed:
    """Copied packets of the groups that stay, encoded ones in place of the others.

    Encoded groups are in order of display, and each picture takes the decoding time of the packet in whose place
    it stands: groups are closed, so the k-th picture of a group is never shown before its k-th packet is decoded.
    """
    places, dts = _places(source)
    starts = {group.packets[0] for group in plan.copied} if source.codec == "hevc" else frozenset()
    kept = np.zeros(len(source.pts), bool)
    for group in plan.copied:
        kept[slice(*group.packets)] = True
    ready = _encoded_packets(plan, store)
    waiting = next(ready, None)
    place = -1

    def feed(packet: av.Packet | None) -> Iterator[av.Packet]:
        nonlocal waiting, place
        place += 1
        if packet is not None and kept[place]:
            packet = _timed(source, packet, place)
            if place in starts:
                data = bytes(packet)
                started = joiner.start(data)
                packet = packet if started == data else with_data(packet, started)
            yield packet
            return
        while waiting is not None and (packet is None or places[waiting.frame] <= place):
            ready_packet = _packet(source, waiting, joiner.pack(waiting.data), int(dts[waiting.frame]))
            yield ready_packet if packet is None else _with_alpha(ready_packet, packet)
            waiting = next(ready, None)

    return feed


def _places(source: VideoIndex) -> tuple[np.ndarray, np.ndarray]:
    """For each frame the packet in whose place it is written, and its decoding time. A group that has more frames
    than packets (missing ones were put back) takes the times that its rate implies."""
    step = round(1 / source.rate / source.time_base)
    dts = decoding_times(source.times, reorder_delay(source.pts), step)
    places = np.zeros(source.frames, np.int64)
    for group in source.groups:
        packets, frames = range(*group.packets), slice(*group.frames)
        count = group.frames[1] - group.frames[0]
        places[frames] = np.minimum(packets[0] + np.arange(count), packets[-1])
        if count == len(packets):
            dts[frames] = source.dts[slice(*group.packets)]
    return places, dts


def written_frames(source: VideoIndex, plan: RenderPlan | None, store: SegmentStore | None) -> list[int]:
    """The numbers of the frames that an output shows, ascending. (Frames that could not be decoded are missing.)"""
    if plan is None or store is None:
        return list(range(source.frames))
    numbers = [n for start, _ in plan.segments for n in store.facts[start].frames]
    for group in plan.copied:
        numbers += range(*group.frames)
    return sorted(numbers)


def _encoded_packets(plan: RenderPlan, store: SegmentStore) -> Iterator[EncodedPacket]:
    for start, _ in plan.segments:
        yield from store.packets(start)


def _timed(source: VideoIndex, packet: av.Packet, place: int) -> av.Packet:
    """The packet, with the decoding time of the index: mp4 needs one where the file gives none, and none takes those
    that go back."""
    if source.dts[place] != NO_TIME:
        packet.dts = int(source.dts[place])
    return packet


def _with_alpha(packet: av.Packet, source: av.Packet) -> av.Packet:
    """The packet with what stands beside a packet of VP8 or VP9 in WebM: the alpha of its picture, which is a stream of
    its own."""
    if source.has_sidedata(ALPHA):
        packet.set_sidedata(source.get_sidedata(ALPHA))
    return packet


def _packet(source: VideoIndex, encoded: EncodedPacket, data: bytes, dts: int) -> av.Packet:
    packet = av.Packet(data)
    packet.pts, packet.dts = int(source.shown[encoded.frame]), dts
    packet.duration = source.duration_of(encoded.frame)
    packet.time_base = source.time_base
    packet.is_keyframe = encoded.key
    return packet
