"""Pictures through the whole chain, with the real detector and the bundled generator."""

import numpy as np
from skimage import data

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.faces.alignment import corners, face_crop, side_of
from faceinpaint_cli.faces.detector import detect_hidden
from faceinpaint_cli.pipeline.image import repair_pictures
from faceinpaint_cli.pipeline.stages import Stages


def test_a_face_behind_paint_is_aligned_better_than_the_paint_lets_it_look():
    portrait = data.astronaut()[:300, 60:360]
    stages = Stages(RunConfig(device="cpu"))
    true = face_crop(stages.detector.detect([portrait])[0][0], 256)
    mask = np.zeros(portrait.shape[:2], bool)
    mask[105:175, 135:195] = True  # from the eyes to the chin
    painted = np.where(mask[..., None], np.uint8(255), portrait)

    def error(face):
        return np.hypot(*(corners(face_crop(face, 256, mask)) - corners(true)).T).mean() / side_of(true)

    [first] = detect_hidden(stages.detector, [painted], [mask])
    [repaired] = repair_pictures([painted], [mask], stages)
    assert (repaired.image[~mask] == painted[~mask]).all()
    assert error(repaired.faces[0]) < 0.7 * min(error(face) for face in first)


def test_found_damage_is_grown_as_a_given_mask_is():
    picture = np.ascontiguousarray(data.astronaut()[:256, 96:352])
    picture[100:164, 70:134] = 255
    sizes = [repair_pictures([picture], [None], Stages(RunConfig(method="telea", dilate=dilate)))[0].mask.sum()
             for dilate in (0, 5)]
    assert sizes[1] > sizes[0] + 4 * 5 * 60
