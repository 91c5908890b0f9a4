"""`tinymvit segment`: overlays, class ids, and where they are written."""

import json
import shutil

import numpy as np
import pytest

from command_line import SCENE, run
from oracle import opened


def test_segment_writes_the_overlay_and_says_what_it_found(capsys, tmp_path):
    target = tmp_path / "out.png"
    code, out, err = run(capsys, "segment", SCENE, "--output", target)
    assert (code, err) == (0, "")
    assert out.startswith(f"{SCENE} -> {target}: background ")
    source, picture = opened(SCENE), opened(target)
    assert picture.width == source.width
    assert picture.height > source.height
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_segment_writes_raw_class_ids(capsys, tmp_path):
    target = tmp_path / "new" / "ids.png"
    code, out, _ = run(capsys, "segment", SCENE, "--output", target, "--mask", "--json")
    assert code == 0
    mask = np.asarray(opened(target))
    assert mask.shape == opened(SCENE).size[::-1]
    found = json.loads(out)
    assert {c["id"] for c in found["classes"]} == set(np.unique(mask).tolist())
    assert found["classes"][0]["label"] == "background"
    assert found["classes"][0]["share"] == pytest.approx(np.mean(mask == 0))


def test_segment_keeps_the_tree_of_a_folder(capsys, tmp_path):
    for place in ("in/a/x.png", "in/b/x.png"):
        (tmp_path / place).parent.mkdir(parents=True)
        shutil.copy(SCENE, tmp_path / place)
    code, _, err = run(capsys, "segment", tmp_path / "in", "--output", tmp_path / "out")
    assert (code, err) == (0, "")
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png")) == [
        "a/x.png",
        "b/x.png",
    ]


def test_two_results_of_one_name_are_refused_before_any_work(capsys, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        shutil.copy(SCENE, tmp_path / place / "x.png")
    code, _, err = run(capsys, "segment", tmp_path / "a/x.png", tmp_path / "b/x.png", "--output", tmp_path / "out")
    assert code == 2
    assert "would hold the results of both" in err
    assert not (tmp_path / "out").exists()
