"""Inputs become jobs, and what is wrong with them is said before any work."""

import os
from pathlib import Path

import pytest

from faceinpaint_cli.errors import UsageError
from faceinpaint_cli.media.atomic import atomic_path
from faceinpaint_cli.media.discover import discover, kind_of


@pytest.fixture
def tree(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub/c.webp", "sub/deep/d.mkv", "notes.txt", ".hidden.png", ".cache/e.png",
                 "sub/code.ts"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"const x = 1")
    return tmp_path / "in"


def relatives(jobs):
    return [job.relative.as_posix() for job in jobs]


def test_folders_are_walked_in_order_and_relative_paths_kept(tree, tmp_path, caplog):
    caplog.set_level("INFO")
    jobs = discover([tree], tmp_path / "out")
    assert relatives(jobs) == ["a.jpg", "b.PNG", "sub/c.webp", "sub/deep/d.mkv"]
    assert [job.kind for job in jobs] == ["image", "image", "image", "video"]
    assert all(job.output == tmp_path / "out" / job.relative and job.input == tree / job.relative for job in jobs)
    assert "ignored 2 files of other kinds" in caplog.text


def test_a_transport_stream_is_told_from_source_code(tree, tmp_path):
    (tree / "film.ts").write_bytes(b"\x47" + bytes(187))
    assert "film.ts" in relatives(discover([tree], tmp_path / "out"))


def test_one_file_to_a_file_and_to_a_folder(tree, tmp_path):
    (job,) = discover([tree / "a.jpg"], tmp_path / "x" / "new.JPEG")
    assert job.output == tmp_path / "x" / "new.JPEG" and job.relative == Path("a.jpg")
    (job,) = discover([tree / "a.jpg"], tmp_path / "x")
    assert job.output == tmp_path / "x" / "a.jpg"
    (tmp_path / "folder.jpg").mkdir()
    (job,) = discover([tree / "a.jpg"], tmp_path / "folder.jpg")
    assert job.output == tmp_path / "folder.jpg" / "a.jpg"


def test_several_inputs(tree, tmp_path):
    jobs = discover([tree / "b.PNG", tree / "sub"], tmp_path / "out")
    assert relatives(jobs) == ["b.PNG", "c.webp", "deep/d.mkv"]


def test_the_same_file_twice_is_one_job(tree, tmp_path):
    assert len(discover([tree / "a.jpg", tree / "a.jpg"], tmp_path / "out")) == 1
    assert len(discover([tree, tree / "a.jpg"], tmp_path / "out")) == 4


def test_two_inputs_for_one_output_are_refused_naming_both(tree, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.jpg").write_bytes(b"")
    with pytest.raises(UsageError) as e:
        discover([tree, other], tmp_path / "out")
    assert str(tree / "a.jpg") in str(e.value) and str(other / "a.jpg") in str(e.value)


def test_output_inside_the_input_is_not_read_again(tree):
    (tree / "done").mkdir()
    (tree / "done" / "a.jpg").write_bytes(b"")
    assert "done/a.jpg" not in relatives(discover([tree], tree / "done"))


def test_masks_inside_the_input_are_left_out(tree, tmp_path):
    jobs = discover([tree], tmp_path / "out", exclude=[tree / "sub", tree / "a.jpg"])
    assert relatives(jobs) == ["b.PNG"]


def test_an_output_that_is_an_input_is_refused(tree, tmp_path):
    for inputs, output in (([tree], tree), ([tree / "a.jpg"], tree / "a.jpg"), ([tree / "a.jpg"], tree),
                           ([tree, tree / "sub" / "c.webp"], tree / "sub")):
        with pytest.raises(UsageError, match=r"would overwrite input|no pictures"):
            discover(inputs, output)


def test_an_input_through_a_link_is_the_same_input(tree, tmp_path):
    (tmp_path / "link").symlink_to(tree)
    with pytest.raises(UsageError, match="would overwrite input"):
        discover([tree], tmp_path / "link")


def test_links_that_are_passed_over_are_named(tree, tmp_path, caplog):
    (tree / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tree / "linked").symlink_to(tmp_path, target_is_directory=True)
    discover([tree], tmp_path / "out")
    assert "gone.png: passed over" in caplog.text and "linked: passed over" in caplog.text


def test_links_that_go_round_end(tree, tmp_path):
    (tree / "sub" / "up").symlink_to(tree)
    assert len(discover([tree], tmp_path / "out")) == 4


@pytest.mark.parametrize("name, message", [("missing.png", "does not exist"), ("notes.txt", "neither a picture")])
def test_named_files_that_will_not_do(tree, tmp_path, name, message):
    with pytest.raises(UsageError, match=message):
        discover([tree / name], tmp_path / "out")


def test_photographs_that_have_to_be_converted_first_are_not_passed_over_in_silence(tree, tmp_path, caplog):
    for name in ("a.heic", "b.HEIC", "sub/moving.gif", "notes.md"):
        (tree / name).write_bytes(b"x")
    assert len(discover([tree], tmp_path / "out")) == 4
    assert "passed over 1 .gif, 2 .heic, which are not read; convert" in caplog.text and ".md" not in caplog.text
    with pytest.raises(UsageError, match=r"a\.heic: \.heic is not read; convert pictures to JPEG or PNG"):
        discover([tree / "a.heic"], tmp_path / "out")


def test_an_empty_folder(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match="no pictures or videos in"):
        discover([tmp_path / "in"], tmp_path / "out")


def test_an_output_file_for_a_folder(tree, tmp_path):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(UsageError, match="must be a folder"):
        discover([tree], tmp_path / "out")


@pytest.mark.parametrize("source, target", [("a.jpg", "a.png"), ("a.jpg", "a.mp4"), ("sub/deep/d.mkv", "d.png")])
def test_an_output_of_another_kind(tree, tmp_path, source, target):
    with pytest.raises(UsageError, match="must be of the same kind"):
        discover([tree / source], tmp_path / target)


def test_a_video_may_change_its_container(tree, tmp_path):
    (job,) = discover([tree / "sub/deep/d.mkv"], tmp_path / "d.mp4")
    assert job.kind == "video"


def test_temporary_files_of_a_killed_run_are_no_inputs(tree, tmp_path):
    with pytest.raises(KeyError), atomic_path(tree / "z.png") as path:
        path.write_bytes(b"half")
        assert "z" not in "".join(relatives(discover([tree], tmp_path / "out")))
        raise KeyError


def test_a_folder_that_cannot_be_listed(tree, tmp_path, monkeypatch):
    listing = Path.iterdir

    def refuse(path):
        if path.name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    if os.geteuid() == 0:  # permissions do not bind root
        monkeypatch.setattr(Path, "iterdir", refuse)
    else:
        (tree / "sub" / "deep").chmod(0)
    try:
        jobs = discover([tree], tmp_path / "out")
    finally:
        (tree / "sub" / "deep").chmod(0o700)
    assert [job.relative.as_posix() for job in jobs if not job.error] == ["a.jpg", "b.PNG", "sub/c.webp"]
    (failed,) = [job for job in jobs if job.error]
    assert "deep: Permission denied" in failed.error and failed.input == tree / "sub" / "deep"


def test_a_file_that_is_not_there_does_not_stop_the_others(tree, tmp_path):
    jobs = discover([tree / "gone.png", tree / "a.jpg", tree / "notes.txt"], tmp_path / "out")
    assert [bool(job.error) for job in jobs] == [True, False, True]
    assert "does not exist" in jobs[0].error and "neither a picture" in jobs[2].error


def test_a_folder_named_like_a_file_is_refused_for_several_inputs(tree, tmp_path):
    with pytest.raises(UsageError, match=r"named like a file \(.png\)"):
        discover([tree / "a.jpg", tree / "b.PNG"], tmp_path / "one.png")
    assert not (tmp_path / "one.png").exists()


@pytest.mark.parametrize("name", ["out.mp5", "out.jpgg", "out.MVK", "out.gif", "out.mp3"])
def test_an_output_that_is_named_like_a_file_of_no_known_kind(tree, tmp_path, name):
    with pytest.raises(UsageError, match=r"is not written; end it in \.jpg, or in .* where a folder is meant"):
        discover([tree / "a.jpg"], tmp_path / name)
    assert discover([tree], tmp_path / name)  # of a folder it can only be a folder
    (job,) = discover([tree / "a.jpg"], tmp_path / name, into_folder=True)
    assert job.output == tmp_path / name / "a.jpg"
    (tmp_path / name).mkdir()
    (job,) = discover([tree / "a.jpg"], tmp_path / name)
    assert job.output == tmp_path / name / "a.jpg"


@pytest.mark.parametrize("name", ["out", "out.v2", "run.2024", "photos.new", "a.test", "b.out", "c.tmp", "8.5", ".dot"])
def test_folders_with_a_dot_in_their_name(tree, tmp_path, name):
    (job,) = discover([tree / "a.jpg"], tmp_path / name)
    assert job.output == tmp_path / name / "a.jpg"


def test_an_output_that_is_said_to_be_a_folder(tree, tmp_path):
    for inputs in ([tree / "a.jpg"], [tree / "a.jpg", tree / "b.PNG"]):
        jobs = discover(inputs, tmp_path / "one.jpg", into_folder=True)
        assert {job.output.parent for job in jobs} == {tmp_path / "one.jpg"}
    (tmp_path / "one.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="is a file"):
        discover([tree / "a.jpg"], tmp_path / "one.jpg", into_folder=True)


def test_kinds_are_told_by_suffix_in_any_case():
    assert [kind_of(Path(n)) for n in ("a.TIFF", "b.Mp4", "c.gif", "d")] == ["image", "video", None, None]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tree, tmp_path):
    os.mkfifo(tree / "pipe.jpg")
    named, other = discover([tree / "pipe.jpg", tree / "a.jpg"], tmp_path / "out")
    assert "it is a pipe or a device; copy" in named.error and not other.error
    assert "pipe.jpg" not in relatives(discover([tree], tmp_path / "out"))
