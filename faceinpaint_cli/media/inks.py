"""Between CMYK and RGB: by the file's own profile where it has one, else by plain arithmetic."""

from __future__ import annotations

import io
import logging

import numpy as np
from PIL import Image, ImageCms

log = logging.getLogger(__name__)


class Inks:
    """Converts ink amounts (uint8, 255 = full) to sRGB and back.

    With an ICC `profile` for CMYK a fill looks as it should under that profile, which a pair of plain formulas
    does not give: real inks are not their ideal. A profile of another kind, or damaged, is not used.
    """

    def __init__(self, profile: bytes | None) -> None:
        self._to_rgb: ImageCms.ImageCmsTransform | None = None
        self._to_cmyk: ImageCms.ImageCmsTransform | None = None
        if not profile:
            return
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if own.profile.xcolor_space != "CMYK":
                return
            screen = ImageCms.createProfile("sRGB")
            how = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
            there = ImageCms.buildTransform(own, screen, "CMYK", "RGB", *how)
            self._to_cmyk = ImageCms.buildTransform(screen, own, "RGB", "CMYK", *how)
            self._to_rgb = there  # both or none
        except (OSError, ImageCms.PyCMSError) as e:
            log.warning("the CMYK profile cannot be used (%s); colours are taken as plain inks", e)

    def to_rgb(self, cmyk: np.ndarray) -> np.ndarray:
        """(H, W, 4) to (H, W, 3), both uint8."""
        image = Image.frombytes("CMYK", cmyk.shape[1::-1], np.ascontiguousarray(cmyk))
        if self._to_rgb is None:
            return np.array(image.convert("RGB"))
        return np.array(ImageCms.applyTransform(image, self._to_rgb))

    def to_cmyk(self, rgb: np.ndarray) -> np.ndarray:
        """(N, 3) to (N, 4), both uint8. Without a profile all grey goes into the black ink, and Pillow's
        R = (1 - C)(1 - K) undoes it to within rounding."""
        if self._to_cmyk is not None and len(rgb):
            row = Image.fromarray(np.ascontiguousarray(rgb[None]))
            return np.asarray(ImageCms.applyTransform(row, self._to_cmyk))[0]
        white = rgb.max(axis=1).astype(np.float32)
        cmy = 255 - rgb * (255 / np.maximum(white, 1))[:, None]
        cmy[white == 0] = 0
        return np.column_stack([np.rint(cmy), 255 - white]).astype(np.uint8)
