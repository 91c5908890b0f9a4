"""Measures a bundled checkpoint on the held-out digits, through tinymvit's own pipelines, and writes its model card.

The pictures are drawn by `digit_scenes` from fixed seeds, so the figures in a card can be had again. Training is left
to `digits`. Needs scikit-learn (extra `train`).
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinymvit.errors import CheckpointError
from tinymvit.files import text_writer, write_files
from tinymvit.pipeline import ImageClassificationPipeline, ImageSegmentationPipeline
from tinymvit.training.digit_scenes import Digits, draw_card, draw_digit, draw_scene, split_digits
from tinymvit.weights import open_checkpoint
from tinymvit.weights.families import transformers

CARD_SIZE = 128
DRAWINGS = 4  # of each held-out digit
SCENES = 500
SCENE_SHAPE = (240, 320)


def evaluate(folder: Path) -> str:
    """Measure the checkpoint in `folder`, write README.md into it, and return the table of figures.

    Raises CheckpointError or ConfigError when `folder` holds no checkpoint that `digits.train` writes, OutputError when
    it cannot be written.
    """
    path, values, _ = open_checkpoint(folder).config
    _, held_out = split_digits()
    task = transformers.task(values)
    if task == "classify":
        figures = measure_classifier(ImageClassificationPipeline(folder), held_out)
        card = CLASSIFIER_CARD
    elif task == "segment":
        figures = measure_segmenter(ImageSegmentationPipeline(folder), held_out)
        card = SEGMENTER_CARD
    else:
        raise CheckpointError(f"{path}: architectures is {values.get('architectures')}, expected a model for digits")
    text = card.format(figures=figures, data=DATA)
    write_files(folder, {"README.md": text_writer(text)})
    return figures


def measure_classifier(classify: ImageClassificationPipeline, digits: Digits) -> str:
    """How many of `digits` are named right, drawn cleanly and drawn at random."""
    pairs = list(zip(digits.glyphs, digits.labels, strict=True))
    clean = [(draw_card(glyph, CARD_SIZE), label) for glyph, label in pairs]
    varied = (
        (draw_digit(np.random.default_rng([seed, index]), glyph, CARD_SIZE), label)
        for seed in range(DRAWINGS)
        for index, (glyph, label) in enumerate(pairs)
    )
    rows = []
    for name, pictures, count in (("clean", clean, len(pairs)), ("varied", varied, DRAWINGS * len(pairs))):
        progress = tqdm(pictures, desc=name, total=count, leave=False)
        right = sum(classify(picture, top_k=1)[0]["label"] == str(label) for picture, label in progress)
        rows.append(f"| {name} | {count:,} | {right / count:.1%} |")
    return "\n".join(["| pictures | number | accuracy |", "|---|---|---|", *rows])


def measure_segmenter(segment: ImageSegmentationPipeline, digits: Digits) -> str:
    """How well the masks of scenes of `digits` fit: intersection over union of each class over all scenes' pixels."""
    names = segment.model.config.id2label
    counts = np.zeros((len(names), len(names)), dtype=np.int64)  # of pixels, by true and by found class
    for seed in tqdm(range(SCENES), desc="scenes", leave=False):
        picture, mask = draw_scene(np.random.default_rng([seed]), digits, SCENE_SHAPE)
        np.add.at(counts, (mask, segment(picture).mask), 1)
    intersection = np.diag(counts)
    overlap = intersection / (counts.sum(axis=0) + counts.sum(axis=1) - intersection)
    rows = [f"| {name} | {overlap[index]:.3f} |" for index, name in names.items()]
    return "\n".join(["| class | IoU |", "|---|---|", *rows, f"| **mean** | **{overlap.mean():.3f}** |"])


DATA = """\
## Data

The handwriting is the test part of *Optical Recognition of Handwritten Digits* (E. Alpaydin and C. Kaynak, UCI Machine
Learning Repository, 1998, <https://doi.org/10.24432/C50P49>), licensed under CC BY 4.0, as scikit-learn's
`load_digits` holds it: 1,797 images of 8x8 pixels, written by 13 people. It was changed: the images are enlarged
smoothly, cut to crisp strokes and drawn in random poses and colours on random papers (`digit_scenes.py`).

Of each class, in the order of the data, every fourth image is held out: 1,352 images for training, 445 held out. The
same people wrote both parts. Held-out images were neither trained on nor used to choose among checkpoints.\
"""

CLASSIFIER_CARD = """\
---
license: apache-2.0
library_name: tinymvit
pipeline_tag: image-classification
---
# digits

MobileViT-XXS that names handwritten digits: 10 labels, 128x128 input, 0.95 million parameters in float16. It comes with
tinymvit so that everything can be tried offline, and tested against known answers.

    tinymvit classify docs/images/digit-7.png --model digits

{data}

## Training

    pip install -e '.[train]'
    python -m tinymvit.training.digits digits --output weights/digits

From random weights, in PyTorch on transformers' `MobileViTForImageClassification`, seeded; about half an hour on two
CPU cores.

## Accuracy

Measured through tinymvit on the 445 held-out digits, by `python -m tinymvit.training.digits evaluate weights/digits`:

{figures}

*clean*: black on white, upright and centred, the 8x8 box four fifths of the picture (`draw_card`). *varied*: each digit
four times, any colour on any paper, lighter or darker, turned by up to 17 degrees, 0.4 to 0.95 of the picture high, out
of focus, with noise (`draw_digit`).

## Limits

It knows one digit a picture, drawn with a thick pen; it was never shown a thin one. Whatever else it is shown, it names
a digit.
"""

SEGMENTER_CARD = """\
---
license: apache-2.0
library_name: tinymvit
pipeline_tag: image-segmentation
---
# digits-seg

DeepLabV3 on MobileViT-XXS that marks handwritten digits in a picture: 11 labels (background and the digits), 160x160
input, output stride 8, 1.86 million parameters in float16. It comes with tinymvit so that everything can be tried
offline, and tested against known answers.

    tinymvit segment docs/images/scene-1.png --model digits-seg --output found.png

{data}

## Training

    pip install -e '.[train]'
    python -m tinymvit.training.digits digits-seg --output weights/digits-seg

From the backbone of the bundled `digits`, in PyTorch on transformers' `MobileViTForSemanticSegmentation`, seeded; about
an hour on two CPU cores.

## Accuracy

Measured through tinymvit on 500 scenes of 320x240 pixels, each with up to five held-out digits of any colour on any
paper (`draw_scene`), by `python -m tinymvit.training.digits evaluate weights/digits-seg`. The mask is compared at the
scene's own size; intersection over union is taken over the pixels of all scenes:

{figures}

## Limits

Digits at least two fifths of the picture's shorter side high and drawn with a thick pen; it was never shown others.
"""
