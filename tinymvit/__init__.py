"""tinymvit: MobileViT from scratch on NumPy and Numba.

    import tinymvit
    tinymvit.classify("digit.png")                              # the short way
    model = tinymvit.MobileViTForImageClassification.from_pretrained("apple/mobilevit-small")

In here: the front of the package, a table of its public names. Each is imported when it is first used: `import
tinymvit` itself costs nothing. Left to others: everything else, a part a folder or file, each of which imports from
those below it and none from here. A new public name is a line in both lists; docs/contributing/adding.md has the place
of every other new thing.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tinymvit.version import __version__

if TYPE_CHECKING:
    from tinymvit.comparison import Comparison as Comparison
    from tinymvit.comparison import ComparisonSettings as ComparisonSettings
    from tinymvit.comparison import compare as compare
    from tinymvit.comparison import compare_dumps as compare_dumps
    from tinymvit.comparison import compare_with_model as compare_with_model
    from tinymvit.config import MobileViTConfig as MobileViTConfig
    from tinymvit.conversion import convert as convert
    from tinymvit.error_budget import int8_errors as int8_errors
    from tinymvit.error_budget import rounding_errors as rounding_errors
    from tinymvit.errors import CheckpointError as CheckpointError
    from tinymvit.errors import ConfigError as ConfigError
    from tinymvit.errors import DumpError as DumpError
    from tinymvit.errors import ImageError as ImageError
    from tinymvit.errors import OutputError as OutputError
    from tinymvit.errors import TinyMViTError as TinyMViTError
    from tinymvit.exporters.export import export as export
    from tinymvit.images.processor import MobileViTFeatureExtractor as MobileViTFeatureExtractor
    from tinymvit.images.processor import MobileViTImageProcessor as MobileViTImageProcessor
    from tinymvit.inspection.dump import open_dump as open_dump
    from tinymvit.inspection.trace import Trace as Trace
    from tinymvit.kernels import get_num_threads as get_num_threads
    from tinymvit.kernels import set_num_threads as set_num_threads
    from tinymvit.limits import get_max_memory as get_max_memory
    from tinymvit.limits import set_max_memory as set_max_memory
    from tinymvit.modeling import MobileViTForImageClassification as MobileViTForImageClassification
    from tinymvit.modeling import MobileViTForSemanticSegmentation as MobileViTForSemanticSegmentation
    from tinymvit.modeling import MobileViTModel as MobileViTModel
    from tinymvit.modeling.tensorflow import TFMobileViTForImageClassification as TFMobileViTForImageClassification
    from tinymvit.modeling.tensorflow import TFMobileViTForSemanticSegmentation as TFMobileViTForSemanticSegmentation
    from tinymvit.modeling.tensorflow import TFMobileViTModel as TFMobileViTModel
    from tinymvit.pipeline import ImageClassificationPipeline as ImageClassificationPipeline
    from tinymvit.pipeline import ImageSegmentationPipeline as ImageSegmentationPipeline
    from tinymvit.pipeline import Segmentation as Segmentation
    from tinymvit.pipeline import classify as classify
    from tinymvit.pipeline import segment as segment
    from tinymvit.quantisation import Ranges as Ranges
    from tinymvit.quantisation import calibrate as calibrate
    from tinymvit.vectors import write_vectors as write_vectors
    from tinymvit.weights import open_checkpoint as open_checkpoint

_HOMES = {
    "compare": "comparison",
    "compare_dumps": "comparison",
    "compare_with_model": "comparison",
    "ComparisonSettings": "comparison",
    "MobileViTConfig": "config",
    "convert": "conversion",
    "export": "exporters.export",
    "open_dump": "inspection.dump",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "DumpError": "errors",
    "ImageError": "errors",
    "OutputError": "errors",
    "TinyMViTError": "errors",
    "MobileViTFeatureExtractor": "images.processor",
    "MobileViTImageProcessor": "images.processor",
    "get_num_threads": "kernels",
    "set_num_threads": "kernels",
    "get_max_memory": "limits",
    "set_max_memory": "limits",
    "MobileViTForImageClassification": "modeling",
    "MobileViTForSemanticSegmentation": "modeling",
    "MobileViTModel": "modeling",
    "ImageClassificationPipeline": "pipeline",
    "ImageSegmentationPipeline": "pipeline",
    "Segmentation": "pipeline",
    "classify": "pipeline",
    "segment": "pipeline",
    "TFMobileViTForImageClassification": "modeling.tensorflow",
    "TFMobileViTForSemanticSegmentation": "modeling.tensorflow",
    "TFMobileViTModel": "modeling.tensorflow",
    "Trace": "inspection.trace",
    "int8_errors": "error_budget",
    "rounding_errors": "error_budget",
    "calibrate": "quantisation",
    "Ranges": "quantisation",
    "write_vectors": "vectors",
    "Comparison": "comparison",
    "open_checkpoint": "weights",
}

__all__ = ["__version__", *_HOMES]

if find_spec("tinymvit.kernels") is None:
    raise ImportError(
        "tinymvit.kernels is not installed: Python found the source folder before the installed package; "
        "leave this folder, or install it with: pip install -e ."
    )


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tinymvit' has no attribute {name!r}")
    return getattr(import_module(f"tinymvit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
