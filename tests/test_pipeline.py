"""Whole answers: the bundled checkpoints on the sample images, the short way and the loaded pipelines."""

from pathlib import Path

import numpy as np
import pytest

import tinymvit
from frameworks import torch, transformers
from oracle import MODEL_FLOAT32, assert_same, opened
from tinymvit.weights import bundled
from torch_models import TINY, build

IMAGES = Path(__file__).parent.parent / "docs" / "images"


@pytest.mark.parametrize("path", sorted(IMAGES.glob("digit-*.png")), ids=lambda path: path.stem)
def test_the_bundled_classifier_reads_the_sample_digits(path):
    best, second = tinymvit.classify(path, top_k=2)
    assert best["label"] == path.stem.removeprefix("digit-")[0]
    assert best["score"] > 0.9 > second["score"]


@pytest.mark.torch
def test_scores_are_those_of_transformers():
    path = IMAGES / "digit-7.png"
    predictions = tinymvit.classify(path, top_k=10)
    assert sum(p["score"] for p in predictions) == pytest.approx(1)
    assert [p["score"] for p in predictions] == sorted((p["score"] for p in predictions), reverse=True)
    folder = bundled()["digits"]
    processor = transformers.MobileViTImageProcessorPil.from_pretrained(folder)
    oracle = transformers.MobileViTForImageClassification.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        pixels = torch.tensor(np.asarray(processor(opened(path))["pixel_values"]))
        expected = oracle(pixels.double()).logits.softmax(-1)[0]
    for p in predictions:
        assert p["score"] == pytest.approx(expected[oracle.config.label2id[p["label"]]].item(), abs=1e-5)


@pytest.mark.parametrize("path", sorted(IMAGES.glob("scene-*.png")), ids=lambda path: path.stem)
def test_the_bundled_segmenter_finds_digits_on_a_background(path):
    result = tinymvit.segment(path)
    width, height = opened(path).size
    assert result.mask.shape == (height, width)
    assert set(np.unique(result.mask)) == set(result.labels) == set(result.shares)
    assert sum(result.shares.values()) == pytest.approx(1)
    assert result.labels[0] == "background"
    assert len(result.labels) > 2


@pytest.mark.torch
@pytest.mark.parametrize("path", sorted(IMAGES.glob("scene-*.png")), ids=lambda path: path.stem)
def test_the_bundled_segmenter_agrees_with_transformers(path):
    result = tinymvit.segment(path)
    width, height = opened(path).size
    folder = bundled()["digits-seg"]
    processor = transformers.MobileViTImageProcessorPil.from_pretrained(folder)
    oracle = transformers.MobileViTForSemanticSegmentation.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        pixels = torch.tensor(np.asarray(processor(opened(path))["pixel_values"]))
        outputs = oracle(pixels.double())
    (expected,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[(height, width)])
    assert np.mean(result.mask == expected.numpy()) > 0.9999  # pixels where two classes tie may fall either way


@pytest.mark.torch
def test_a_mask_covers_the_whole_image_even_where_the_processor_crops(tmp_path):
    oracle = build("MobileViTForSemanticSegmentation", TINY | {"output_stride": 8})
    oracle.float().save_pretrained(tmp_path)
    processor = tinymvit.MobileViTImageProcessor(size={"shortest_edge": 40}, crop_size=32)
    processor.save_pretrained(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (30, 75, 3), np.uint8)
    mask = tinymvit.segment(image, model=tmp_path).mask
    pixels = processor(image, do_center_crop=False).pixel_values
    assert pixels.shape == (1, 3, 40, 100)
    with torch.no_grad():
        logits = oracle.double()(torch.tensor(pixels).double()).logits
        logits = torch.nn.functional.interpolate(logits, size=(30, 75), mode="bilinear", align_corners=False)
    assert np.mean(mask == logits[0].argmax(0).numpy()) > 0.999


def test_a_loaded_pipeline_takes_one_image_or_a_list():
    classifier = tinymvit.ImageClassificationPipeline("digits")
    paths = sorted(IMAGES.glob("digit-*.png"))
    together = classifier(paths, top_k=3)
    assert together == [classifier(path, top_k=3) for path in paths]
    assert all(len(predictions) == 3 for predictions in together)
    segmenter = tinymvit.ImageSegmentationPipeline()
    scene = IMAGES / "scene-1.png"
    both = segmenter([scene, opened(scene)])
    assert_same(both[0].mask, both[1].mask)
    assert_same(both[0].mask, segmenter(np.asarray(opened(scene))).mask)


def test_top_k_beyond_the_labels_gives_them_all_and_below_one_is_an_error():
    assert len(tinymvit.classify(IMAGES / "digit-7.png", top_k=1000)) == 10
    for top_k in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=r"top_k is .*; expected a whole number of at least 1"):
            tinymvit.classify(IMAGES / "digit-7.png", top_k=top_k)


def test_a_checkpoint_for_the_other_task_is_named_as_such():
    with pytest.raises(tinymvit.CheckpointError, match="digits-seg: a segmentation checkpoint; use segment"):
        tinymvit.classify(IMAGES / "digit-7.png", model="digits-seg")
    with pytest.raises(tinymvit.CheckpointError, match="digits: a classification checkpoint; use classify"):
        tinymvit.segment(IMAGES / "scene-1.png", model="digits")


def test_logits_of_the_bundled_classifier_on_a_batch_equal_those_one_by_one():
    processor = tinymvit.MobileViTImageProcessor.from_pretrained("digits")
    model = tinymvit.MobileViTForImageClassification.from_pretrained("digits")
    batch = processor(sorted(IMAGES.glob("digit-*.png"))).pixel_values
    logits = model(batch).logits
    for i in range(len(batch)):
        assert_same(model(batch[i : i + 1]).logits, logits[i : i + 1])
    assert_same(logits, model(batch.astype(np.float64)).logits, MODEL_FLOAT32)
