"""The Numba kernels: every op of the engine, float32, channels last, one op a file.

In here: each file opens with its formula and its cost; the public function checks and allocates, the private loop
below it does the work. `simd` is what the loops are written in, `runtime` what runs them. Left to others: which op
takes which kernel (`engine.lowering`); nothing here knows the rest of the project. A new op is a file here, and so is a
faster method for one; tests/kernels/test_every_kernel.py says which of its other parts are missing.

Arithmetic is in a fixed order: products accumulate by fused multiply-add in order of k, long ones in parts that depend
only on their length, the classifier's in float64; sums across the lanes are a fixed tree. So a result has the same bits
for every number of threads, every batch and position in it, and every CPU.
"""

from .activate import activate as activate
from .add import add as add
from .attention import attention as attention
from .batch_norm import PackedBatchNorm as PackedBatchNorm
from .batch_norm import batch_norm as batch_norm
from .batch_norm import pack_batch_norm as pack_batch_norm
from .concat import concat as concat
from .conv2d import PackedConv2d as PackedConv2d
from .conv2d import conv2d as conv2d
from .conv2d import pack_conv2d as pack_conv2d
from .depthwise_conv2d import PackedDepthwiseConv2d as PackedDepthwiseConv2d
from .depthwise_conv2d import depthwise_conv2d as depthwise_conv2d
from .depthwise_conv2d import pack_depthwise_conv2d as pack_depthwise_conv2d
from .inverted_residual import PackedInvertedResidual as PackedInvertedResidual
from .inverted_residual import inverted_residual as inverted_residual
from .inverted_residual import pack_inverted_residual as pack_inverted_residual
from .layer_norm import layer_norm as layer_norm
from .linear import PackedLinear as PackedLinear
from .linear import linear as linear
from .linear import pack_linear as pack_linear
from .matrix_vector import matrix_vector as matrix_vector
from .mean_pool import mean_pool as mean_pool
from .resize_bilinear import resize_bilinear as resize_bilinear
from .runtime.arguments import empty as empty
from .runtime.program import Program as Program
from .runtime.program import call as call
from .runtime.program import recording as recording
from .runtime.threads import get_num_threads as get_num_threads
from .runtime.threads import max_num_threads as max_num_threads
from .runtime.threads import set_num_threads as set_num_threads
from .runtime.warm_up import cache_folder as cache_folder
from .runtime.warm_up import is_cached as is_cached
from .runtime.warm_up import warm_up as warm_up
from .simd.activations import ACTIVATIONS as ACTIVATIONS
from .unfold import fold as fold
from .unfold import unfold as unfold
from .winograd import PackedWinograd as PackedWinograd
from .winograd import pack_winograd as pack_winograd
from .winograd import winograd as winograd
