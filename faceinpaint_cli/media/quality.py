"""How well an encoder writes: --crf and --preset in the words of each, or what cannot be told from the source."""

from __future__ import annotations

import logging

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.errors import UsageError

log = logging.getLogger(__name__)

VISUALLY_LOSSLESS = {"libx264": 15.0, "libx264rgb": 15.0, "libx265": 16.0, "libsvtav1": 18.0, "libvpx-vp9": 16.0,
                     "libvpx": 6.0}
"""Constant rate factors at which a repaired picture cannot be told from what was handed to the encoder."""
GREATEST_CRF = {"libx264": 51, "libx264rgb": 51, "libx265": 51}
"""Where it is less than that of --crf."""
VP8_QMIN = 4
"""The encoder's own least quantiser; with a --crf below it, it does not start."""
LEAST_LOSSY_CRF = 1
"""Below it x264 is lossless at 8 bits, which only its profile High 4:4:4 Predictive knows."""
QUANTISED = frozenset(("mpeg4", "mpeg1video", "mpeg2video", "mjpeg", "flv", "h263", "wmv1", "wmv2", "msmpeg4",
                       "msmpeg4v2"))
"""Encoders whose quality is a fixed quantiser, 1 (best) to 31; --crf sets it."""
FINEST_QUANTISER = 2.0
PRESETS = {"libx264": "medium", "libx264rgb": "medium", "libx265": "medium", "libsvtav1": "8"}
PRESET_OPTION = {"libvpx-vp9": "cpu-used", "libvpx": "cpu-used"}
HARDWARE = ("_nvenc", "_qsv", "_amf")
"""Ends of the names of encoders in graphics cards, which have presets too."""


def quality(name: str, config: RunConfig) -> tuple[dict[str, str], float | None]:
    """(options, fixed quantiser where it has one) of an encoder; UsageError for a --crf that it does not take."""
    options: dict[str, str] = {}
    quantiser = None
    if config.crf is not None and config.crf > (greatest := GREATEST_CRF.get(name, config.crf)):
        raise UsageError(f"--crf must be from 0 to {greatest} for the encoder {name}, not {config.crf:g}")
    if name in VISUALLY_LOSSLESS:
        options["crf"] = f"{config.crf if config.crf is not None else VISUALLY_LOSSLESS[name]:g}"
    elif name in QUANTISED:
        quantiser = min(max(config.crf, 1.0), 31.0) if config.crf is not None else FINEST_QUANTISER
    elif name.endswith("_nvenc"):
        options["cq"] = f"{config.crf if config.crf is not None else 16:g}"
    elif config.crf is not None:
        log.warning("--crf means nothing to the encoder %s and is not used", name)
    if config.preset is not None and (name in PRESETS or name in PRESET_OPTION or name.endswith(HARDWARE)):
        options[PRESET_OPTION.get(name, "preset")] = config.preset
    elif config.preset is not None:
        log.warning("--preset means nothing to the encoder %s and is not used", name)
    elif name in PRESETS:
        options["preset"] = PRESETS[name]
    if name in ("libvpx-vp9", "libvpx"):
        options |= {"deadline": "good", "b": "0" if name == "libvpx-vp9" else "100M"}
        options.setdefault("cpu-used", "3")
    if name == "libvpx":
        if float(options["crf"]) < VP8_QMIN:
            options["qmin"] = "0"
        options["auto-alt-ref"] = "0"  # its invisible packets would count as frames
    if name == "libx265":
        options["x265-params"] = "log-level=error"
    if name == "ffv1":
        options |= {"level": "3", "slicecrc": "1"}
    return options, quantiser
