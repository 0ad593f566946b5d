"""Make the pictures that `faceinpaint bench` measures on by default: python benchmarks/make_samples.py

Two public-domain portraits of the United States Government (Eileen Collins, NASA, from scikit-image; Grace
Hopper, US Navy, from matplotlib), cropped as CelebA's aligned faces are: eyes in the middle, 0.213 of the side
apart. Each also tighter and mirrored. Four pictures of two people are enough to notice a change, not to rank
methods. The clip is that of `samples/whole`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from matplotlib import cbook
from PIL import Image
from skimage import data

from faceinpaint_cli.faces.detector import FaceDetector

FOLDER = Path(__file__).resolve().parent / "faceinpaint_bench" / "samples"
SIDE = 256
EYE_DISTANCE, EYE_HEIGHT = 0.213, 0.51
"""Of the side, in CelebA's 178 x 178 crop."""


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    hopper = np.asarray(Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB"))
    detector = FaceDetector("cpu")
    for name, picture in (("astronaut", data.astronaut()), ("hopper", hopper)):
        eyes = detector.detect([picture])[0][0].landmarks[:2]
        x, y = eyes.mean(0)
        side = float(np.linalg.norm(eyes[1] - eyes[0])) / EYE_DISTANCE
        for kind, scale in (("near", 1.0), ("tight", 0.8)):
            extent = min(scale * side, *picture.shape[:2])
            left = min(max(x - extent / 2, 0), picture.shape[1] - extent)
            top = min(max(y - extent * EYE_HEIGHT, 0), picture.shape[0] - extent)
            crop = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC,
                                                   box=(left, top, left + extent, top + extent))
            if kind == "tight":
                crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            crop.save(FOLDER / f"{name}-{kind}.png", optimize=True)
    shutil.copyfile(FOLDER.parents[2] / "samples" / "whole" / "clip.mp4", FOLDER / "clip.mp4")


if __name__ == "__main__":
    main()
