"""What the caller says of a checkpoint, in place of what lies beside its weights; and the order of channels, which the
settings of models and processors say in two ways."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinymvit.checks import LARGEST, is_one_of, is_positive_integer
from tinymvit.errors import ConfigError
from tinymvit.presets import PROCESSOR_SIZES
from tinymvit.text import short

CHANNEL_ORDERS = ("RGB", "BGR")


@dataclass(frozen=True)
class Given:
    """What the caller says of a checkpoint.

    labels: the names of its classes, by id. channel_order: "RGB" or "BGR", of the pixels that it reads. size: the side
    of its input in pixels; what pictures are resized to before changes in proportion. Raises ConfigError.
    """

    labels: tuple[str, ...] | None = None
    channel_order: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if self.channel_order is not None and not is_one_of(self.channel_order, CHANNEL_ORDERS):
            raise ConfigError(f"channel_order: {short(self.channel_order)}, expected {' or '.join(CHANNEL_ORDERS)}")
        if self.size is not None and not (is_positive_integer(self.size) and self.size <= LARGEST):
            raise ConfigError(f"size: {short(self.size)}, expected a whole number of pixels, 1 to {LARGEST}")

    def config(self, values: Mapping[str, Any], label_count: int | None, checkpoint: object) -> dict[str, Any]:
        """A model's settings with what is given. label_count: of its head, None for a model without one. Raises
        ConfigError for another number of labels."""
        changed = dict(values)
        if self.size is not None:
            changed["image_size"] = int(self.size)
        if self.labels is not None:
            if label_count != len(self.labels):
                needed = "none" if label_count is None else str(label_count)
                raise ConfigError(f"labels: {len(self.labels)} names, expected {needed}, as {checkpoint} has")
            changed = {name: value for name, value in changed.items() if name not in ("num_labels", "label2id")}
            changed["id2label"] = dict(enumerate(self.labels))
        return changed

    def processor(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A processor's settings with what is given."""
        changed = dict(values)
        if self.channel_order is not None:
            changed.pop("do_flip_channels", None)
            changed["do_flip_channel_order"] = self.channel_order == "BGR"
        if self.size is not None:
            settings = PROCESSOR_SIZES | changed
            sides = _sides(settings["size"])
            crop = _sides(settings["crop_size"]) if settings.get("do_center_crop", True) else {}
            before = max(crop.values() or sides.values(), default=0)
            if before and sides:
                changed["size"] = {name: side * int(self.size) // before for name, side in sides.items()}
            changed["crop_size"] = {"height": int(self.size), "width": int(self.size)}
        return changed


NOTHING = Given()


def channel_order_of(processor: Mapping[str, Any]) -> str:
    """The order of the channels in the pixels that a processor of these settings makes: "RGB" or "BGR"."""
    flips = processor.get("do_flip_channel_order", processor.get("do_flip_channels", True))
    return "BGR" if flips else "RGB"


def _sides(size: Any) -> dict[str, int]:
    """The sides that a processor's `size` or `crop_size` names; none if it names none that could be."""
    sides = size if isinstance(size, Mapping) else {"shortest_edge": size}
    return {name: int(side) for name, side in sides.items()} if all(map(is_positive_integer, sides.values())) else {}
