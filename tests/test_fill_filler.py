"""The whole fill, with a real network of fresh weights: what matters here is the plumbing, not the face."""

import numpy as np
import pytest
import torch
from skimage import data

from faceinpaint_cli.config import RunConfig
from faceinpaint_cli.errors import DeviceError, ModelError
from faceinpaint_cli.faces.crops import plan_crops
from faceinpaint_cli.fill.classical import ns
from faceinpaint_cli.fill.filler import Filler, FillItem
from faceinpaint_cli.models.checkpoint import save_checkpoint
from faceinpaint_cli.models.registry import build_generator
from faceinpaint_cli.types import Face

FACE = Face(np.array([130, 61, 218, 172.0]),
            np.array([[155, 101], [196, 102], [176, 126], [160, 143], [192, 143.0]]), 0.99)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    options = {"widths": (8, 8, 8), "refine_width": 8, "refine_depth": 1}
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_checkpoint(path, build_generator("base", **options).state_dict(), "base", {"options": options})
    return path


@pytest.fixture(scope="module")
def items():
    image = data.astronaut()[:300, 50:400].copy()
    items = []
    for top, bottom, left, right in [(100, 140, 150, 190), (0, 20, 0, 350), (50, 200, 100, 260)]:
        mask = np.zeros(image.shape[:2], bool)
        mask[top:bottom, left:right] = True
        broken = image.copy()
        broken[mask] = 255
        items.append(FillItem(broken, mask, [FACE]))
    items.append(FillItem(items[0].image.astype(np.uint16) * 257, items[0].mask, [FACE]))
    return items


def config(model, **changes):
    return RunConfig(model=str(model), device="cpu", precision="fp32", **changes)


def test_only_the_hole_changes_and_batches_do_not_matter(model, items):
    one_by_one = [Filler(config(model, batch_size="1")).fill([item])[0] for item in items]
    together = Filler(config(model, batch_size="3")).fill(items)
    for item, a, b in zip(items, one_by_one, together, strict=True):
        assert a.shape == item.image.shape
        assert a.dtype == item.image.dtype
        assert np.array_equal(a[~item.mask], item.image[~item.mask])
        assert (a[item.mask] != item.image[item.mask]).mean() > 0.7  # a part is truly white
        assert np.abs(a.astype(int) - b).max() <= np.iinfo(a.dtype).max // 128
    assert np.abs((together[3] >> 8).astype(int) - together[0]).max() <= 1


@pytest.mark.parametrize("detail", [False, True])
def test_what_reaches_out_of_a_face_is_continued_from_the_drawing(model, items, monkeypatch, detail):
    """A hole from the chin down to the suit: the generator is not shown a guess of the suit, which goes on from what it
    draws; what is under the hole is nowhere."""
    filler = Filler(config(model))
    seen = []

    def bars(images, holes):
        seen.extend(holes)
        columns = 0.5 + 0.4 * np.sin(np.arange(256, dtype=np.float32) / 4)
        return [np.repeat(columns[None, :, None], 256, 0).repeat(3, 2) for _ in images]

    monkeypatch.setattr(filler._generator, "predict", bars)
    mask = np.zeros(items[0].mask.shape, bool)
    mask[150:290, 120:220] = True
    results = []
    for paint in ((255, 0, 0), (0, 255, 0)):
        broken = np.where(mask[..., None], np.uint8(paint), data.astronaut()[:300, 50:400])
        results.append(filler.fill([FillItem(broken, mask, [FACE])], detail)[0])
    np.testing.assert_array_equal(*results)
    simple = plan_crops(mask, [FACE], 256).simple
    assert 0.2 < (simple & mask).sum() / mask.sum() < 0.8
    assert all(hole[230:, 100:150].all() for hole in seen), "the guess of the suit is shown"
    top = np.flatnonzero(simple[:, 170])[0]
    above, below = (results[0][row, 150:190].mean(1) for row in (top - 2, top + 1))
    assert above.std() > 20 and np.corrcoef(above, below)[0, 1] > 0.7


def test_nothing_to_fill(model, items):
    filler = Filler(config(model))
    assert filler.fill([]) == []
    clean = FillItem(items[0].image, np.zeros_like(items[0].mask))
    assert np.array_equal(filler.fill([clean])[0], clean.image)


def test_classical_methods_fill_eight_and_sixteen_bits(items):
    filler = Filler(RunConfig(method="ns"))
    eight, sixteen = filler.fill([items[0], items[3]])
    assert np.array_equal(eight, ns(items[0].image, items[0].mask))
    assert sixteen.dtype == np.uint16
    assert np.array_equal(sixteen[~items[3].mask], items[3].image[~items[3].mask])
    assert np.abs((sixteen >> 8).astype(int) - eight)[items[3].mask].max() <= 10


def test_other_methods_fill_sixteen_bits_in_eight(items, monkeypatch):
    filler = Filler(RunConfig(method="ns"))
    monkeypatch.setattr(filler, "_function", lambda image, mask: np.where(mask[..., None], 7, image).astype(np.uint8))
    result = filler.fill([items[3]])[0]
    assert (result[items[3].mask] == 7 * 257).all()
    assert np.array_equal(result[~items[3].mask], items[3].image[~items[3].mask])


def test_a_batch_too_large_for_the_memory_is_halved(model, items, monkeypatch):
    generator = Filler(config(model, batch_size="8"))._generator
    generator.device = torch.device("cuda")  # the way of work that knows a device out of memory
    images = [np.zeros((256, 256, 3), np.float32)] * 5
    sizes = []

    def limited(images, holes):
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.cuda.OutOfMemoryError
        return images

    monkeypatch.setattr(generator, "_predict_batch", limited)
    assert len(generator.predict(images, images)) == 5
    assert sizes == [5, 4, 2, 2, 1]

    def never(images, holes):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(generator, "_predict_batch", never)
    with pytest.raises(DeviceError, match="--device cpu"):
        generator.predict(images, images)


def test_batches_side_by_side_keep_their_order(model):
    generator = Filler(config(model, batch_size="2"))._generator
    rng = np.random.default_rng(0)
    images = [rng.random((256, 256, 3), np.float32) for _ in range(5)]
    holes = [np.zeros((256, 256), bool) for _ in images]
    generator.workers = 1
    one = generator.predict(images, holes)
    generator.workers = 3
    before = torch.get_num_threads()
    several = generator.predict(images, holes)
    assert torch.get_num_threads() == before
    assert all(np.abs(a - b).max() < 1e-3 for a, b in zip(one, several, strict=True))


def test_bad_model_and_device_are_told_at_once(tmp_path):
    with pytest.raises(ModelError, match="--model"):
        Filler(RunConfig(model=str(tmp_path / "none.safetensors")))
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="--device cuda"):
            Filler(RunConfig(device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "auto"])
def test_cuda_agrees_with_the_cpu(model, items, precision):
    expected = Filler(config(model)).fill(items)
    results = Filler(RunConfig(model=str(model), device="cuda", precision=precision)).fill(items)
    for a, b in zip(results[:3], expected[:3], strict=True):
        assert np.abs(a.astype(int) - b).mean() < 1
