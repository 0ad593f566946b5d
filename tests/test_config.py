import json
from dataclasses import fields

import pytest

from faceinpaint_cli.config import RunConfig, parse_box, parse_color, parse_shard
from faceinpaint_cli.errors import UsageError


@pytest.mark.parametrize("wrong, flag", [
    ({"dilate": -1}, "--dilate"), ({"fidelity": 1.5}, "--fidelity"), ({"method": "magic"}, "--method"),
    ({"box": ("1,2,3",)}, "--box"), ({"box": ("1,2,0,4",)}, "--box"), ({"mask_color": "white"}, "--mask-color"),
    ({"shard": "3/2"}, "--shard"), ({"shard": "0/2"}, "--shard"), ({"device": "tpu"}, "--device"),
    ({"batch_size": "0"}, "--batch-size"), ({"on_existing": "ask"}, "--on-existing"), ({"crf": 99.0}, "--crf"),
    ({"crf": float("nan")}, "--crf"), ({"fidelity": float("nan")}, "--fidelity"),
])
def test_wrong_values_name_their_flag(wrong, flag):
    with pytest.raises(UsageError, match=flag) as raised:
        RunConfig(**wrong)
    assert "\n" not in str(raised.value)


def test_parsers():
    assert parse_color("#ff8000") == (255, 128, 0)
    assert parse_box("-3,4,5,6") == (-3, 4, 5, 6)
    assert parse_shard("2/4") == (2, 4)


def test_every_field_has_help_and_a_valid_default():
    for f in fields(RunConfig):
        assert f.metadata["help"].rstrip(".)").strip(), f.name
        assert f.metadata["group"] in ("What to fill", "How", "Video", "Bulk")
    RunConfig()


def test_resume_keeps_what_is_done_unless_told_otherwise():
    assert RunConfig(resume=True).on_existing == "skip"
    assert RunConfig(resume=True, on_existing="overwrite").on_existing == "overwrite"


def test_looks_for_damage_only_without_a_mask_or_when_asked():
    assert RunConfig().looks_for_damage
    assert not RunConfig(box=("0,0,4,4",)).looks_for_damage
    assert RunConfig(box=("0,0,4,4",), detect=True).looks_for_damage


def test_saved_config_is_json(tmp_path):
    RunConfig(box=("0,0,4,4",)).save(tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["box"] == ["0,0,4,4"]
