"""timm, the oracle for its own names, where it is installed; None elsewhere. A test that uses it is marked `torch`.

timm needs torchvision for much that no model needs. With torchvision beside it transformers would give other image
processors, so timm is installed alone (`pip install --no-deps timm`), and imported with names in torchvision's place.
"""

import importlib.abc
import importlib.machinery
import sys
import types

from frameworks import torch
from torch_models import randomize


class _AnyClass(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class _AnyModule(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyClass(name, (), {})


class _Torchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        ours = name.partition(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if ours else None

    def create_module(self, spec):
        return _AnyModule(spec.name)

    def exec_module(self, module):
        pass


def _import_timm():
    finder = _Torchvision()
    sys.meta_path.insert(0, finder)
    try:
        import timm
        import timm.models.byobnet
    except ImportError:
        return None
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    return timm


timm = None if torch is None else _import_timm()
WHY_NOT = 'timm is not installed: pip install --no-deps "timm==1.0.31"'


def build(name, seed=0, **options):
    """timm's model of this name, with random weights and statistics, in float32."""
    with torch.no_grad():
        return randomize(timm.create_model(name, **options), seed).eval()


def build_of_widths(hidden_sizes, neck_hidden_sizes, expand_ratio, num_classes, seed=0):
    """A MobileViT of timm's with other widths than the three that have a name."""
    from timm.models.byobnet import ByobNet, ByoModelCfg
    from timm.models.mobilevit import _inverted_residual_block, _mobilevit_block

    neck = neck_hidden_sizes
    blocks = (
        _inverted_residual_block(d=1, c=neck[1], s=1, br=expand_ratio),
        _inverted_residual_block(d=3, c=neck[2], s=2, br=expand_ratio),
        *(
            _mobilevit_block(1, neck[3 + i], 2, hidden_sizes[i], depth, patch_size=2, br=expand_ratio)
            for i, depth in enumerate((2, 4, 3))
        ),
    )
    config = ByoModelCfg(
        blocks=blocks,
        stem_chs=neck[0],
        stem_type="3x3",
        stem_pool="",
        downsample="",
        act_layer="silu",
        num_features=neck[6],
    )
    with torch.no_grad():
        return randomize(ByobNet(config, num_classes=num_classes), seed).eval()
