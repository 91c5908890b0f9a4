"""The Numba kernels: every op of the engine, float32, channels last, one op a file.

In here: each file opens with its formula and its cost; the public function checks and allocates, the private loop
below it does the work. `simd` is what the loops are written in, `runtime` what runs them. Left to others: which op
takes which kernel (`engine.lowering`); nothing here knows the rest of the project. A faster method for an op is a file
here.

Arithmetic is in a fixed order: products accumulate by fused multiply-add in order of k, long ones in parts that depend
only on their length, the classifier's in float64; sums across the lanes are a fixed tree. So a result has the same bits
for every number of threads, every batch and position in it, and every CPU.
"""

from .activate import activate
from .add import add
from .attention import attention
from .concat import concat
from .conv2d import PackedConv2d, conv2d, pack_conv2d
from .depthwise_conv2d import PackedDepthwiseConv2d, depthwise_conv2d, pack_depthwise_conv2d
from .inverted_residual import PackedInvertedResidual, inverted_residual, pack_inverted_residual
from .layer_norm import layer_norm
from .linear import PackedLinear, linear, pack_linear
from .matrix_vector import matrix_vector
from .mean_pool import mean_pool
from .resize_bilinear import resize_bilinear
from .runtime.arguments import empty
from .runtime.program import Program, call, recording
from .runtime.threads import get_num_threads, max_num_threads, set_num_threads
from .runtime.warm_up import cache_folder, is_cached, warm_up
from .simd.activations import ACTIVATIONS
from .unfold import fold, unfold
from .winograd import PackedWinograd, pack_winograd, winograd

__all__ = [
    "ACTIVATIONS",
    "PackedConv2d",
    "PackedDepthwiseConv2d",
    "PackedInvertedResidual",
    "PackedLinear",
    "PackedWinograd",
    "Program",
    "activate",
    "add",
    "attention",
    "cache_folder",
    "call",
    "concat",
    "conv2d",
    "depthwise_conv2d",
    "empty",
    "fold",
    "get_num_threads",
    "inverted_residual",
    "is_cached",
    "layer_norm",
    "linear",
    "matrix_vector",
    "max_num_threads",
    "mean_pool",
    "pack_conv2d",
    "pack_depthwise_conv2d",
    "pack_inverted_residual",
    "pack_linear",
    "pack_winograd",
    "recording",
    "resize_bilinear",
    "set_num_threads",
    "unfold",
    "warm_up",
    "winograd",
]
