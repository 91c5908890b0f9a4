"""What the bundled checkpoints are made from and measured on, the script that makes them, and the files it left.

Tests that need the handwriting itself are skipped without scikit-learn; the others draw made-up glyphs.
"""

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open

import tinymvit
from frameworks import torch, transformers
from oracle import assert_same
from tinymvit.errors import CheckpointError
from tinymvit.training import digit_scenes, model_card
from tinymvit.training import digits as train
from tinymvit.training.digit_scenes import INK_CONTRAST, Digits, Pose, draw_card, draw_digit, draw_scene, draw_stroke
from tinymvit.weights import bundled

RINGS = np.array([[np.hypot(i - 3.5, j - 3.5) for j in range(8)] for i in range(8)], dtype=np.float32)
MADE_UP = Digits(np.stack([radius > RINGS for radius in (2, 3, 4)]).astype(np.float32), np.array([3, 0, 9]))


@pytest.fixture(scope="module")
def split():
    if torch is None and "torch" in sys.modules:
        pytest.skip("SciPy, which scikit-learn imports, does not bear that PyTorch is blocked")
    pytest.importorskip("sklearn")
    return digit_scenes.split_digits()


def rng(*seed):
    return np.random.default_rng(seed)


# The split


def test_the_split_is_fixed(split):
    _, held_out = split
    digest = hashlib.sha256(
        (held_out.glyphs * 16).astype(np.uint8).tobytes() + held_out.labels.astype(np.uint8).tobytes()
    )
    assert digest.hexdigest()[:16] == "5f0168164dcc437a"


def test_the_parts_are_disjoint_and_leave_nothing_out(split):
    training, held_out = ({glyph.tobytes() for glyph in part.glyphs} for part in split)
    assert not training & held_out
    assert len(training) + len(held_out) == 1797


def test_every_class_is_held_out_alike(split):
    training, held_out = (np.bincount(part.labels) for part in split)
    assert np.all(np.abs(held_out - training / 3) <= 1)


def test_without_scikit_learn_the_split_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tinymvit\[train\]'"):
        digit_scenes.split_digits()


# Drawing


def test_a_half_inked_glyph_has_its_edge_in_the_middle():
    glyph = np.zeros((8, 8), dtype=np.float32)
    glyph[:, :4] = 1
    row = draw_stroke(glyph, (64, 64), Pose(x=32, y=32, height=64))[32]
    assert_same(row[[4, 16, 28, 35, 48, 60]], np.array([1, 1, 1, 0, 0, 0], dtype=np.float32))
    assert row[31] > 0.5 > row[32]
    assert row[31] + row[32] == pytest.approx(1, abs=1e-5)


@given(st.integers(-8, 8), st.integers(-8, 8))
def test_moving_the_pose_moves_the_stroke(x, y):
    here = draw_stroke(MADE_UP.glyphs[1], (64, 72), Pose(x=36, y=32, height=30, angle=0.2, slant=0.1))
    there = draw_stroke(MADE_UP.glyphs[1], (64, 72), Pose(x=36 + x, y=32 + y, height=30, angle=0.2, slant=0.1))
    assert_same(there, np.roll(here, (y, x), axis=(0, 1)), tolerance=1e-4)


def test_a_quarter_turn_is_clockwise():
    glyph = np.zeros((8, 8), dtype=np.float32)
    glyph[0, :] = glyph[:, 0] = 1
    upright = draw_stroke(glyph, (48, 48), Pose(x=24, y=24, height=32))
    turned = draw_stroke(glyph, (48, 48), Pose(x=24, y=24, height=32, angle=np.pi / 2))
    assert_same(turned, np.rot90(upright, -1), tolerance=1e-4)


def test_a_lower_cut_is_bolder():
    fine, bold = (draw_stroke(MADE_UP.glyphs[0], (64, 64), Pose(32, 32, 50, cut=cut)).sum() for cut in (0.6, 0.3))
    assert bold > fine


def test_a_card_is_black_on_white():
    card = draw_card(MADE_UP.glyphs[1], 64)
    assert card.shape == (64, 64, 3)
    assert card.dtype == np.uint8
    assert card[32, 32].tolist() == [0, 0, 0]
    assert card[0, 0].tolist() == [255, 255, 255]


@given(st.integers(0, 10_000))
def test_ink_is_darker_or_lighter_than_all_of_the_paper(seed):
    paper, tones = digit_scenes.draw_paper(rng(seed), (9, 7))
    ink = digit_scenes.brightness(digit_scenes.random_ink(rng(seed, 1), tones))
    paper = digit_scenes.brightness(paper)
    assert ink < paper.min() - INK_CONTRAST + 1e-5 or ink > paper.max() + INK_CONTRAST - 1e-5


@given(st.integers(0, 10_000), st.integers(16, 90))
def test_a_digit_is_the_same_from_the_same_seed(seed, size):
    picture = draw_digit(rng(seed), MADE_UP.glyphs[2], size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    assert_same(draw_digit(rng(seed), MADE_UP.glyphs[2], size), picture)


@given(st.integers(0, 10_000), st.integers(16, 90), st.integers(16, 90))
def test_a_scene_is_the_same_from_the_same_seed_and_its_mask_names_its_digits(seed, height, width):
    picture, mask = draw_scene(rng(seed), MADE_UP, (height, width))
    assert picture.shape == (height, width, 3)
    assert mask.shape == (height, width)
    assert picture.dtype == mask.dtype == np.uint8
    found = set(np.unique(mask))
    assert found <= {0, 1, 4, 10}
    assert 0 in found
    assert len(found) > 1
    again = draw_scene(rng(seed), MADE_UP, (height, width))
    assert_same(again[0], picture)
    assert_same(again[1], mask)


def test_the_mask_lies_where_the_ink_is(monkeypatch):
    monkeypatch.setattr(
        digit_scenes, "draw_paper", lambda _, shape: (np.ones((*shape, 3), np.float32), np.ones((2, 3)))
    )
    monkeypatch.setattr(digit_scenes, "random_ink", lambda *_: np.zeros(3, np.float32))
    monkeypatch.setattr(digit_scenes, "photograph", lambda _, picture: picture)
    picture, mask = draw_scene(rng(1), MADE_UP, (96, 128))
    assert_same(mask > 0, picture[:, :, 0] <= 0.5)


def test_different_seeds_draw_different_scenes():
    assert not np.array_equal(draw_scene(rng(1), MADE_UP, (32, 32))[0], draw_scene(rng(2), MADE_UP, (32, 32))[0])


# Training


def shortened(name):
    return replace(train.TASKS[name], sizes=(64,), batch=2, steps=1)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["digits", "digits-seg"])
def test_training_reads_the_training_digits_and_writes_a_checkpoint_that_transformers_loads(
    name, tmp_path, monkeypatch
):
    monkeypatch.setattr(train, "split_digits", lambda: (MADE_UP, None))
    train.train(shortened(name), tmp_path, epochs=2)
    check_checkpoint(tmp_path, train.TASKS[name])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["digits", "digits-seg"])
def test_training_pictures_are_bgr_between_0_and_1(name, monkeypatch):
    task = replace(shortened(name), draw=lambda *_: (np.full((4, 4, 3), (255, 0, 51), dtype=np.uint8), np.uint8(7)))
    ((pixels, labels),) = train.batches(task, rng(0), MADE_UP, 4, 0.0)
    assert_same(pixels[0, :, 0, 0].numpy(), np.array([0.2, 0, 1], dtype=np.float32))
    assert_same(labels.numpy(), np.array([7, 7]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--output", "OUT", "--epochs", "0"], "'0' is not a whole number above 0"),
        pytest.param(["digits", "--output", "FILE"], "FILE: is a file, expected a folder", marks=pytest.mark.torch),
        (["evaluate", "OUT"], "OUT: no such file, folder or checkpoint"),
        (["samples", "--output", "FILE"], "FILE: is a file, expected a folder"),
    ],
)
def test_bad_use_ends_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    held_out = Digits(np.repeat(MADE_UP.glyphs[:1], 200, axis=0), np.zeros(200, dtype=np.int64))
    for module in (train, digit_scenes, model_card):
        monkeypatch.setattr(module, "split_digits", lambda: (MADE_UP, held_out))
    (tmp_path / "FILE").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    try:
        code = train.main()
    except SystemExit as stop:  # argparse's own
        code = stop.code
    assert code == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error


def without(module, *arguments):
    """What the script says in a process where `module` cannot be imported."""
    program = (
        f"import runpy, sys; sys.modules[{module!r}] = None; runpy.run_module({train.__name__!r}, None, '__main__')"
    )
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("module", ["torch", pytest.param("transformers", marks=pytest.mark.torch)])
def test_without_the_frameworks_training_says_what_to_install(module, tmp_path):
    result = without(module, "digits", "--output", str(tmp_path / "new"))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"tinymvit.training.digits: {module} is not installed: pip install 'tinymvit[train]'\n"
    assert list(tmp_path.iterdir()) == []


def test_what_needs_no_framework_runs_without_one(tmp_path):
    result = without("torch", "evaluate", str(tmp_path))
    assert result.returncode == 2
    assert "config.json: cannot be read: No such file" in result.stderr


def test_only_checkpoints_for_digits_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(model_card, "split_digits", lambda: (None, MADE_UP))
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(CheckpointError, match=r"architectures is \['BertModel'\], expected"):
        model_card.evaluate(tmp_path)


# Measuring: with answers known beforehand


def test_accuracy_counts_the_right_answers():
    def always_three(_picture, top_k):
        return [{"label": "3", "score": 1.0}]

    table = model_card.measure_classifier(always_three, MADE_UP)
    assert table.splitlines()[2:] == ["| clean | 3 | 33.3% |", "| varied | 12 | 33.3% |"]


def test_overlap_is_counted_over_all_scenes(monkeypatch):
    truth = iter([np.array([[0, 1], [1, 1]]), np.array([[0, 0], [0, 1]])])
    found = iter([np.array([[0, 0], [1, 1]]), np.array([[0, 0], [1, 1]])])
    monkeypatch.setattr(model_card, "SCENES", 2)
    monkeypatch.setattr(model_card, "draw_scene", lambda *_: (None, next(truth)))

    class Segmenter:
        model = SimpleNamespace(config=SimpleNamespace(id2label={0: "background", 1: "0"}))

        def __call__(self, _picture):
            return SimpleNamespace(mask=next(found))

    # background: 3 of 5 pixels agree; digit 0: 3 of 5
    rows = model_card.measure_segmenter(Segmenter(), MADE_UP).splitlines()[2:]
    assert rows == ["| background | 0.600 |", "| 0 | 0.600 |", "| **mean** | **0.600** |"]


@pytest.mark.parametrize("name", ["digits", "digits-seg"])
def test_only_held_out_digits_are_measured(name, tmp_path, monkeypatch):
    for path in bundled()[name].iterdir():
        (tmp_path / path.name).symlink_to(path)
    seen = []
    monkeypatch.setattr(model_card, "split_digits", lambda: ("the training digits", MADE_UP))
    for measure in ("measure_classifier", "measure_segmenter"):
        monkeypatch.setattr(model_card, measure, lambda _, digits: seen.append(digits) or "| the | figures |")
    assert model_card.evaluate(tmp_path) == "| the | figures |"
    assert seen == [MADE_UP]
    card = (tmp_path / "README.md").read_text()
    assert "| the | figures |" in card
    assert "CC BY 4.0" in card


# The bundled files


def check_checkpoint(folder, task):
    """The files of `task`'s checkpoint: float16, finite, what transformers' model and image processor expect."""
    with safe_open(folder / "model.safetensors", "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    weights = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    assert {tensor.dtype for tensor in weights.values()} == {np.dtype(np.float16)}
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    model, report = getattr(transformers, task.model).from_pretrained(folder, output_loading_info=True)
    assert model.dtype == torch.float32
    assert not any(report.values()), report
    assert model.config.id2label == dict(enumerate(task.labels))
    processor = tinymvit.MobileViTImageProcessor.from_pretrained(folder).to_dict()
    assert processor.items() >= (train.PROCESSOR | task.processor).items()


@pytest.mark.torch
@pytest.mark.parametrize("name", ["digits", "digits-seg"])
def test_bundled_checkpoints_are_what_training_writes(name):
    check_checkpoint(bundled()[name], train.TASKS[name])


def test_bundled_checkpoints_are_small():
    assert sum(path.stat().st_size for name in train.TASKS for path in bundled()[name].iterdir()) < 6_000_000


def test_the_cards_state_figures_that_are_good_enough():
    card = (bundled()["digits"] / "README.md").read_text()
    assert float(re.search(r"^\| clean \| 445 \| ([\d.]+)% \|$", card, re.MULTILINE)[1]) >= 98
    assert re.search(r"^\| varied \| 1,780 \| [\d.]+% \|$", card, re.MULTILINE)
    card = (bundled()["digits-seg"] / "README.md").read_text()
    assert float(re.search(r"^\| \*\*mean\*\* \| \*\*([\d.]+)\*\* \|$", card, re.MULTILINE)[1]) >= 0.80


@pytest.mark.parametrize(
    ("name", "text"), [("digits", model_card.CLASSIFIER_CARD), ("digits-seg", model_card.SEGMENTER_CARD)]
)
def test_the_cards_are_what_measuring_writes(name, text):
    card = (bundled()[name] / "README.md").read_text()
    (figures,) = re.findall(r"(?:^\|.*\|\n)+", card, re.MULTILINE)
    assert card == text.format(figures=figures.rstrip("\n"), data=model_card.DATA)


# The sample images


def test_the_sample_images_are_drawn_from_held_out_digits(split, images):
    for name, picture in digit_scenes.draw_samples().items():
        with Image.open(images / name) as file:
            kept = np.asarray(file.convert("RGB"), dtype=np.int16)
        assert kept.shape == picture.shape
        assert np.abs(kept - picture).mean() < 1, name  # another release of Pillow may round otherwise


def test_the_sample_digits_are_named_right(images):
    classify = tinymvit.ImageClassificationPipeline("digits")
    for path in images.glob("digit-*.png"):
        best = classify(path)[0]
        assert best["label"] == path.stem.removeprefix("digit-")
        assert best["score"] > 0.9


@pytest.mark.parametrize(("name", "digits"), [("scene-1.png", {"5", "7", "9"}), ("scene-2.png", {"2", "4", "7"})])
def test_the_sample_scenes_are_marked_right(name, digits, images):
    found = tinymvit.segment(images / name)
    assert {found.labels[index] for index, share in found.shares.items() if share > 0.01} == digits | {"background"}


@pytest.fixture(scope="module")
def images(request):
    return request.config.rootpath / "docs" / "images"
