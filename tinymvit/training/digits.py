"""Makes what is bundled: trains the two checkpoints, measures them, draws the sample images.

    python -m tinymvit.training.digits digits --output FOLDER          a classifier of handwritten digits, from nothing
    python -m tinymvit.training.digits digits-seg --output FOLDER      their segmentation, from the bundled classifier
    python -m tinymvit.training.digits evaluate FOLDER                 held-out accuracy, printed, put in a model card
    python -m tinymvit.training.digits samples --output docs/images    pictures of held-out digits

Training runs in PyTorch on transformers' model, so the checkpoints come from the reference implementation. Every
picture comes from `digit_scenes` and a seed. The held-out digits are never trained on, nor used to choose among
checkpoints: the last one is kept. Measuring and the card are left to `model_card`.

Needs the extra `train`: PyTorch and transformers to train, scikit-learn for the handwriting.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tinymvit.errors import TinyMViTError
from tinymvit.files import json_writer, write_files
from tinymvit.training.digit_scenes import (
    Bytes,
    Digits,
    draw_card,
    draw_digit,
    draw_samples,
    draw_scene,
    random_pose,
    split_digits,
)
from tinymvit.training.model_card import evaluate
from tinymvit.weights import backbone_tensors, load_tensors, save_checkpoint


def main() -> int:
    """Run the command of the process's arguments, and return the exit code: 0, 130 after Ctrl-C, or 2 with one line on
    stderr for what cannot be used or is not installed."""
    arguments = parse_arguments()
    try:
        if arguments.command == "samples":
            write_files(arguments.output, {name: png_writer(picture) for name, picture in draw_samples().items()})
        elif arguments.command == "evaluate":
            print(evaluate(arguments.folder))
        else:
            train(TASKS[arguments.command], arguments.output, arguments.epochs)
    except (TinyMViTError, ModuleNotFoundError) as error:
        print(f"tinymvit.training.digits: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tinymvit.training.digits", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, task in TASKS.items():
        command = commands.add_parser(name, help=f"train a {task.model}")
        command.add_argument("--output", type=Path, required=True, help="folder for the checkpoint")
        command.add_argument("--epochs", type=positive, default=task.epochs, help="default: %(default)s")
    command = commands.add_parser("evaluate", help="measure a checkpoint on held-out digits and write its model card")
    command.add_argument("folder", type=Path, help="a folder that training wrote")
    command = commands.add_parser("samples", help="draw the sample images")
    command.add_argument("--output", type=Path, required=True, help="folder for the pictures")
    return parser.parse_args()


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


@dataclass(frozen=True)
class Task:
    """What differs between the two trainings."""

    model: str  # transformers' class
    labels: list[str]
    settings: dict[str, Any]  # of the configuration, beside XX_SMALL
    processor: dict[str, Any]  # of the image processor, beside PROCESSOR
    draw: Callable[[np.random.Generator, Digits, int, float], tuple[Bytes, Any]]
    sizes: tuple[int, ...]  # sides of the pictures, each for an equal part of the training: small ones cost little
    batch: int
    steps: int  # batches in an epoch
    epochs: int
    learning_rate: float
    backbone: str | None  # the bundled checkpoint to start from


def draw_lesson(rng: np.random.Generator, digits: Digits, size: int, progress: float) -> tuple[Bytes, Any]:
    """A picture of one digit and the digit. `progress` goes from 0 to 1 through the training.

    The first half leads from black on white to all colours and papers, with a few plain ones kept to the end: shown
    all colours at once, the network learns nothing for a long time.
    """
    choice = rng.integers(len(digits.labels))
    if rng.random() < min(2 * progress, 0.85):
        picture = draw_digit(rng, digits.glyphs[choice], size)
    else:
        picture = draw_card(digits.glyphs[choice], size, random_pose(rng, (size, size), size * rng.uniform(0.6, 0.95)))
    return picture, digits.labels[choice]


def draw_square_scene(rng: np.random.Generator, digits: Digits, size: int, _: float) -> tuple[Bytes, Any]:
    """A scene of any proportions, upright or wide, and its mask, both squeezed into a square as the processor will."""
    width = round(size * rng.uniform(0.7, 1.6))
    picture, mask = draw_scene(rng, digits, (size, width))
    return (
        np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR)),
        np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST)),
    )


TASKS = {
    "digits": Task(
        model="MobileViTForImageClassification",
        labels=[str(digit) for digit in range(10)],
        settings={"image_size": 128},
        processor={
            "size": {"shortest_edge": 128},
            "do_center_crop": True,
            "crop_size": {"height": 128, "width": 128},
        },
        draw=draw_lesson,
        sizes=(64, 64, 96, 128),
        batch=32,
        steps=42,
        epochs=44,
        learning_rate=2e-3,
        backbone=None,
    ),
    "digits-seg": Task(
        model="MobileViTForSemanticSegmentation",
        labels=["background", *(str(digit) for digit in range(10))],
        settings={"image_size": 160, "output_stride": 8},
        processor={"size": {"height": 160, "width": 160}, "do_center_crop": False},
        draw=draw_square_scene,
        sizes=(96, 96, 160, 160, 160),
        batch=8,
        steps=50,
        epochs=30,
        learning_rate=1e-3,
        backbone="digits",
    ),
}
XX_SMALL = {
    "hidden_sizes": [64, 80, 96],
    "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320],
    "expand_ratio": 2.0,
    "hidden_dropout_prob": 0.05,
}
PROCESSOR = {
    "image_processor_type": "MobileViTImageProcessor",
    "do_resize": True,
    "resample": 2,  # bilinear
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_flip_channel_order": True,
}


def frameworks() -> tuple[Any, Any]:
    """PyTorch and transformers. Raises ModuleNotFoundError, with what to install, if one is missing."""
    try:
        import torch
        import transformers
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(f"{missing.name} is not installed: pip install 'tinymvit[train]'") from missing
    return torch, transformers


def train(task: Task, folder: Path, epochs: int) -> None:
    """Train `task` and leave a checkpoint in `folder` after every epoch: a moving average of the weights.

    Raises OutputError when the folder cannot be written, at once and not after the first epoch; ModuleNotFoundError
    without PyTorch, transformers or scikit-learn.
    """
    torch, _ = frameworks()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    digits, _ = split_digits()
    model = build(task).to(memory_format=torch.channels_last).train()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, task.learning_rate, total_steps=epochs * task.steps, pct_start=0.1
    )
    save(average.module, task, folder)
    start = time.monotonic()
    for epoch in range(epochs):
        size = task.sizes[epoch * len(task.sizes) // epochs]
        losses = []
        for pixels, labels in batches(task, rng, digits, size, epoch / epochs):
            loss = model(pixels.to(memory_format=torch.channels_last), labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            losses.append(loss.item())
            progress = f"epoch {epoch + 1}/{epochs}  step {len(losses)}/{task.steps}  {size}x{size} pixels"
            minutes = (time.monotonic() - start) / 60
            print(f"\r{progress}  loss {np.mean(losses):.4f}  {minutes:.1f} min ", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        save(average.module, task, folder)


def build(task: Task) -> Any:
    """transformers' model of `task`, with the backbone it starts from or random weights."""
    torch, transformers = frameworks()
    config = transformers.MobileViTConfig(
        **XX_SMALL,
        **task.settings,
        id2label=dict(enumerate(task.labels)),
        label2id={label: index for index, label in enumerate(task.labels)},
        architectures=[task.model],
    )
    model = getattr(transformers, task.model)(config)
    # transformers draws BatchNorm's scales from a normal distribution of deviation 0.02, which all but silences every
    # layer: nothing is learnt from there. PyTorch's own initialisation trains.
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    if task.backbone is not None:
        tensors = backbone_tensors(load_tensors(task.backbone))
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("conv_1x1_exp.")}
        model.mobilevit.load_state_dict({name: torch.tensor(tensor) for name, tensor in kept.items()})
    return model


def batches(
    task: Task, rng: np.random.Generator, digits: Digits, size: int, progress: float
) -> Iterator[tuple[Any, Any]]:
    """One epoch of freshly drawn pictures as PyTorch's tensors: pixels (B, 3, size, size) float32 in BGR, and int64
    labels (B,) or masks (B, size, size)."""
    torch, _ = frameworks()
    for _ in range(task.steps):
        pictures, labels = zip(*(task.draw(rng, digits, size, progress) for _ in range(task.batch)), strict=True)
        pixels = np.stack(pictures)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) / 255
        yield torch.from_numpy(pixels), torch.from_numpy(np.stack(labels).astype(np.int64))


def save(model: Any, task: Task, folder: Path) -> None:
    """Write the checkpoint: float16 weights, the configuration and the image processor's settings."""
    tensors = {
        name: tensor.numpy().astype(np.float16)
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()  # the others count BatchNorm's batches
    }
    save_checkpoint(folder, tensors, model.config.to_diff_dict())
    write_files(folder, {"preprocessor_config.json": json_writer(PROCESSOR | task.processor)})


def png_writer(picture: Bytes) -> Callable[[Any], object]:
    return lambda file: Image.fromarray(picture).save(file, format="PNG", optimize=True)


if __name__ == "__main__":
    sys.exit(main())
