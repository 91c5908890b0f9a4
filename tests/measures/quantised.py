"""What int8 costs the bundled checkpoints, on held-out digits: `python tests/measures/quantised.py`.

The pictures are those of the model cards, the ranges come from pictures of the digits that were trained on. Each
checkpoint is measured in float32 (our engine), with the weights alone in int8, and in int8 by the reference: about an
hour on two cores. `--share 10` takes every tenth picture.
"""

import argparse
from types import SimpleNamespace

import numpy as np

from tinymvit import calibrate, reference
from tinymvit.passes.quantise import in_whole_numbers
from tinymvit.pipeline import ImageClassificationPipeline, ImageSegmentationPipeline
from tinymvit.training import model_card
from tinymvit.training.digit_scenes import Digits, draw_digit, draw_scene, split_digits

CALIBRATED_ON = 64  # pictures
METHODS = {"int8, min-max": {}, "int8, percentile 99.99": {"method": "percentile", "percentile": 99.99}}


class InInt8:
    """What a pipeline calls, in int8 by the reference: a model with ranges."""

    def __init__(self, model, ranges, keep_float=()):
        self.model, self.ranges, self.keep_float, self.config = model, ranges, keep_float, model.config
        self.networks = {}

    def __call__(self, pixel_values):
        if pixel_values.shape not in self.networks:
            graph = self.model.graph(pixel_values.shape).select(["logits"])
            self.networks[pixel_values.shape] = self.ranges.quantised(graph, self.model.weights, self.keep_float)
        graph, weights = self.networks[pixel_values.shape]
        return SimpleNamespace(logits=reference.run(graph, weights, pixel_values, np.float32)["logits"])


def weights_in_int8(model):
    """The model with each weight of more than one axis rounded to int8, per output channel."""
    rounded = {}
    for name, weight in model.weights.items():
        if weight.ndim > 1:
            q, scale, _ = in_whole_numbers(weight, np.zeros(len(weight), np.float32), 1.0)
            weight = q * scale.reshape(-1, *[1] * (weight.ndim - 1))
        rounded[name] = weight
    return type(model).from_tensors(model.config, rounded)


def ways(pipeline, pictures):
    """The pipeline in float32, with int8 weights, and in int8, by name."""
    model = pipeline.model
    yield "float32", model
    yield "int8 weights", weights_in_int8(model)
    for name, settings in METHODS.items():
        yield name, InInt8(model, calibrate(model, pictures, **settings))


def classifier(digits, share):
    pipeline = ImageClassificationPipeline("digits")
    trained, held_out = split_digits()
    pictures = [
        draw_digit(np.random.default_rng([7, i]), glyph, 128) for i, glyph in enumerate(trained.glyphs[:CALIBRATED_ON])
    ]
    part = Digits(held_out.glyphs[::share], held_out.labels[::share])
    for name, model in ways(pipeline, pictures):
        pipeline.model = model
        rows = model_card.measure_classifier(pipeline, part).splitlines()[2:]
        digits(name, *(row.strip("|").split("|") for row in rows))


def segmenter(digits, share):
    pipeline = ImageSegmentationPipeline("digits-seg")
    trained, held_out = split_digits()
    pictures = [
        draw_scene(np.random.default_rng([7, i]), trained, model_card.SCENE_SHAPE)[0] for i in range(CALIBRATED_ON)
    ]
    model_card.SCENES = model_card.SCENES // share
    for name, model in ways(pipeline, pictures):
        pipeline.model = model
        digits(name, model_card.measure_segmenter(pipeline, held_out).splitlines()[-1].strip("|").split("|"))


def say(name, way, *rows):
    print(name, way, *(" ".join(row) for row in rows), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--share", type=int, default=1, help="of the pictures: every so many")
    parser.add_argument("--drawings", type=int, default=model_card.DRAWINGS, help="of each digit, at random")
    parser.add_argument("--only", choices=("digits", "digits-seg"))
    options = parser.parse_args()
    model_card.DRAWINGS = options.drawings
    for name, measure in {"digits": classifier, "digits-seg": segmenter}.items():
        if options.only in (None, name):
            measure(
                lambda way, *rows, name=name: print(name, way, *(" ".join(row) for row in rows), flush=True),
                options.share,
            )


if __name__ == "__main__":
    main()
