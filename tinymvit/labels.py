"""PASCAL VOC's class names and colours.

ImageNet's thousand names are not here: they come with each checkpoint's `config.json`, as any other label does.
"""

import numpy as np

VOC_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def voc_palette(count: int = 256) -> np.ndarray:
    """The colours of PASCAL VOC's masks for class ids 0 to `count` - 1, at most 256: (count, 3) uint8, RGB.

    The bits of the id are dealt out to red, green and blue in turn, the lowest first, each colour filled from its
    highest bit down: id 1 is (128, 0, 0), 2 is (0, 128, 0), 8 is (64, 0, 0). So near ids have far colours, and any
    number of classes is served. Source: VOCcolormap.m of the VOC development kit.
    """
    if not 0 <= count <= 256:
        raise ValueError(f"count: {count}, expected 0 to 256 colours")
    ids = np.arange(count, dtype=np.uint8)
    palette = np.zeros((count, 3), dtype=np.uint8)
    for bit in range(8):
        channel, depth = bit % 3, bit // 3
        palette[:, channel] |= (ids >> bit & 1) << (7 - depth)
    return palette
