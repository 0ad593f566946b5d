"""Pictures of transport streams that lost their times with their first packet."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from media_factory import encode, read_back, scene

from faceinpaint_cli import inpaint_video
from faceinpaint_cli.damage.evidence import diagnose
from faceinpaint_cli.media.untimed import completed

PACKET = 188


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "2", "b_strategy": "0"}], ids=str)
def test_a_picture_that_lost_its_time_has_it_again(options: dict[str, str], tmp_path: Path) -> None:
    clip, damaged = tmp_path / "clip.ts", tmp_path / "damaged.ts"
    encode(clip, "libx264", (scene(i, 144, 176) for i in range(30)), 15,
           options={"slices": "4", "crf": "12", "sc_threshold": "0", **options})
    data = clip.read_bytes()
    packets = [data[i : i + PACKET] for i in range(0, len(data), PACKET)]
    starts = [i for i, p in enumerate(packets) if p[1] & 0x5F == 0x41 and p[2] == 0]
    damaged.write_bytes(b"".join(p for i, p in enumerate(packets) if i not in (starts[4], starts[5], starts[21])))
    with av.open(str(damaged)) as container:
        assert any(p.pts is None for p in container.demux(video=0) if p.size)
    found, whole = diagnose(damaged), diagnose(clip)
    assert found.times == whole.times and found.damaged
    result = inpaint_video(damaged, tmp_path / "out.ts", method="telea")
    assert result.method == "in-loop" and result.frames == 30
    before, after = (read_back(path).times for path in (clip, tmp_path / "out.ts"))
    assert [t - after[0] for t in after] == [t - before[0] for t in before]


def test_times_are_given_where_there_is_one_place_for_them() -> None:
    even = [(i * 40 + 80, i * 40) for i in range(20)]
    for gone in ({7}, {0}, {19}, {7, 8}):
        assert completed([(None, None) if i in gone else t for i, t in enumerate(even)]) == {i: even[i] for i in gone}
    lost = [t for i, t in enumerate(even) if i not in (6, 7, 8)]
    assert completed([*lost[:6], (None, None), *lost[6:]]) == {6: even[8]}  # next to what is whole
    assert completed([*even[:6], (None, None), *even[6:]]) == {}  # there is no room
    assert completed([(None, None)] * 10 + even[:10]) == {}
