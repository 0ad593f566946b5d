"""H.264 pictures that were hit although their decoder said nothing: their slices end before their data do.

What follows a wrong bit, or zeros from a failing disk, often decodes to some picture of the right size, and then
bytes are left over, of which the decoder says nothing. A whole slice is needed to its last byte: cut a little shorter,
it does not decode. Cut slices are tried as ones that no other refers to, so that one decoder can take them between the
real ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av

from faceinpaint_cli.media import tolerant
from faceinpaint_cli.media.h264_expendable import expendable
from faceinpaint_cli.media.h264_headers import ParameterSets, is_slice
from faceinpaint_cli.media.h264_nal import join, length_size, split
from faceinpaint_cli.media.h264_pcm import grey
from faceinpaint_cli.media.h264_substitute import Substituter
from faceinpaint_cli.media.video_index import open_video, video_stream
from faceinpaint_cli.media.video_reader import read_packets, with_data

CUTS = (45, 30, 20, 14, 9, 6)
"""A slice that decodes cut by any of these numbers of bytes was not needed to its end. (A decoder reads ahead, and may
see an end in what it then makes of nothing: with 14, 9 and 6 alone 38 of 2,500 pictures of whole clips decode.)"""


def unread_pictures(path: Path) -> list[int]:
    """Numbers of the packets of an H.264 file in which a slice ends before its data do. (In a transport stream what is
    left of the next picture may stand behind a whole one.)"""
    found = []
    with open_video(path) as container:
        stream = video_stream(container, path)
        substituter = Substituter(stream.codec_context.extradata)
        prefix = length_size("h264", stream.codec_context.extradata)
        decoder = tolerant.open_decoder(stream, threads=False)
        decoder.options = tolerant.STRICT
        for number, packet in enumerate(read_packets(container, stream)):
            data = bytes(packet)
            heading = substituter.heading(data)
            units = [unit.data for unit in split(data, prefix) if is_slice(unit)]
            if any(_is_unread(trials, prefix, packet, decoder) for trials in _trials(units, substituter.sets)):
                found.append(number)
            _, error = tolerant.decode_one(decoder, packet)
            if error is not None and heading is not None and substituter.refusal(heading) is None:
                # what refers to it must decode all the same
                tolerant.decode_one(decoder, with_data(packet, substituter.packet(data, heading, grey(heading.sps))))
    return found


def _trials(units: Iterable[bytes], sets: ParameterSets) -> Iterable[list[bytes]]:
    """For each slice that is long enough what it is when it is cut, the shortest first."""
    for unit in units:
        try:
            start, stripped = expendable(unit, sets)
        except ValueError:  # a damaged header is a sign of its own
            continue
        if len(unit) - max(CUTS) > start:
            yield [stripped(unit[:-cut]) for cut in CUTS]


def _is_unread(trials: Iterable[bytes], prefix: int, packet: av.Packet, decoder: av.VideoCodecContext) -> bool:
    """Whether the decoder finds no fault with any of these slices."""
    return all(tolerant.decode_one(decoder, with_data(packet, join([trial], prefix)))[1] is None for trial in trials)
