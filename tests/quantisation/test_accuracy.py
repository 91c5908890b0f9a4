"""What int8 costs the bundled checkpoints on held-out digits: at most half a point, and 0.01 of mean IoU."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from tinymvit import calibrate
from tinymvit.pipeline import ImageClassificationPipeline, ImageSegmentationPipeline
from tinymvit.training.digit_scenes import Digits, draw_card, draw_digit, draw_scene, split_digits

pytest.importorskip("sklearn", reason="the handwriting: pip install scikit-learn")
pytestmark = pytest.mark.slow

MEASURE = runpy.run_path(str(Path(__file__).parent.parent / "measures" / "quantised.py"))
SHAPE = (240, 320)


def test_digits_are_named_as_well():
    trained, held_out = split_digits()
    pipeline = ImageClassificationPipeline("digits")
    pictures = [draw_digit(np.random.default_rng([7, i]), glyph, 128) for i, glyph in enumerate(trained.glyphs[:32])]
    drawn = [draw_digit(np.random.default_rng([0, i]), held_out.glyphs[i], 128) for i in range(0, 445, 4)]
    drawn += [draw_card(held_out.glyphs[i], 128) for i in range(2, 445, 5)]
    labels = [str(held_out.labels[i]) for i in (*range(0, 445, 4), *range(2, 445, 5))]
    assert len(drawn) == len(labels) == 201

    def right():
        found = (pipeline(picture, top_k=1)[0]["label"] for picture in drawn)
        return sum(name == label for name, label in zip(found, labels, strict=True))

    before = right()
    pipeline.model = MEASURE["InInt8"](pipeline.model, calibrate(pipeline.model, pictures))
    assert before >= 185
    assert (before - right()) / len(drawn) <= 0.005


def test_scenes_are_marked_as_well():
    trained, held_out = split_digits()
    pipeline = ImageSegmentationPipeline("digits-seg")
    pictures = [draw_scene(np.random.default_rng([7, i]), trained, SHAPE)[0] for i in range(16)]
    scenes = [draw_scene(np.random.default_rng([i]), Digits(*held_out), SHAPE) for i in range(16)]

    def mean_iou():
        counts = np.zeros((11, 11), np.int64)
        for picture, mask in scenes:
            np.add.at(counts, (mask, pipeline(picture).mask), 1)
        intersection = np.diag(counts)
        return float((intersection / (counts.sum(0) + counts.sum(1) - intersection)).mean())

    before = mean_iou()
    pipeline.model = MEASURE["InInt8"](pipeline.model, calibrate(pipeline.model, pictures))
    assert before > 0.7
    assert before - mean_iou() <= 0.01
