"""Which sound and subtitles beside a video some containers carry, where their muxers do not say: they take other codecs
for data that no reader knows, or refuse the file."""

from __future__ import annotations

import av

_PROGRAM = frozenset(("mp1", "mp2", "mp3", "ac3", "dts", "pcm_s16be", "pcm_dvd", "dvd_subtitle"))
CARRIED = {
    "mpegts": frozenset((
        "aac", "aac_latm", "mp1", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "opus", "s302m", "pcm_bluray",
        "dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle", "hdmv_text_subtitle", "arib_caption")),
    "mpeg": _PROGRAM, "vob": _PROGRAM, "svcd": _PROGRAM, "dvd": _PROGRAM,
    "ogg": frozenset(("vorbis", "opus", "flac", "speex")), "ogv": frozenset(("vorbis", "opus", "flac", "speex")),
    "mxf": frozenset(("pcm_s16le", "pcm_s24le")),
}
"""Codecs by container: ISO/IEC 13818-1 and what is registered with it, and as the muxers of the library write."""


def carries(format_name: str, stream: av.stream.Stream) -> bool:
    """Whether a container carries a stream of sound or subtitles; True for all others, and where nothing is known."""
    if format_name not in CARRIED or stream.type not in ("audio", "subtitle") or stream.codec_context is None:
        return True
    return stream.codec_context.codec.canonical_name in CARRIED[format_name]
