"""Faces of any picture on CelebA's canvas, by MTCNN's landmarks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from faceinpaint_cli.faces.alignment import face_crop
from faceinpaint_cli.faces.detector import FaceDetector
from faceinpaint_train.crops import CANVAS, CROP


def align_faces(
    detector: FaceDetector, images: Sequence[np.ndarray], tight: bool = False
) -> list[np.ndarray | None]:
    """The largest face of each picture (HWC uint8 RGB) as a canvas (218, 178, 3) uint8; None without a face.

    The face is laid where CelebA's are, or with `tight` its bounding box fills the crop of the canvas.
    """
    aligned: list[np.ndarray | None] = []
    for image, faces in zip(images, detector.detect(images), strict=True):
        if not faces:
            aligned.append(None)
            continue
        face = max(faces, key=lambda f: float(np.prod(f.box[2:] - f.box[:2])))
        if tight:
            scale = CROP[2:] / (face.box[2:] - face.box[:2])
            matrix = np.array([[scale[0], 0, -scale[0] * face.box[0]], [0, scale[1], -scale[1] * face.box[1]]])
        else:
            matrix = face_crop(face, CROP[2]).matrix.copy()
        matrix[:, 2] += CROP[:2]
        shrinks = np.hypot(*matrix[:, 0]) < 0.5
        way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        aligned.append(cv2.warpAffine(image, matrix, CANVAS, flags=way, borderMode=cv2.BORDER_REFLECT_101))
    return aligned
