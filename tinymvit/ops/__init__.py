"""What each op means: its attributes, the shapes of its weights and of its output, its cost, its value. One op a file.

In here: each op is a small frozen dataclass whose method `compute` is the specification. It is what the engine and
every port are held against, written to be read: no speed, no layout tricks, channels first throughout. `op.py` has what
all ops answer, and the legend of the letters in shapes; `elementary.py` the functions that have the same bits on every
machine, for `compute_in_order`. Left to others: ops in their places (`graph`), running a graph
(`reference`), being fast (`kernels`, where an op has a file of the same name; `engine.lowering` chooses). A new op is a
file here and a line below; tests/ops/test_every_op.py says which of its other parts are missing.
"""

from tinymvit.ops.activation import ACTIVATION_FUNCTIONS as ACTIVATION_FUNCTIONS
from tinymvit.ops.activation import Activation as Activation
from tinymvit.ops.add import Add as Add
from tinymvit.ops.attention import Attention as Attention
from tinymvit.ops.attention import Context as Context
from tinymvit.ops.attention import Scores as Scores
from tinymvit.ops.attention import Softmax as Softmax
from tinymvit.ops.batch_norm import BatchNorm as BatchNorm
from tinymvit.ops.concat import Concat as Concat
from tinymvit.ops.conv2d import Conv2d as Conv2d
from tinymvit.ops.fused import Fused as Fused
from tinymvit.ops.inverted_residual import InvertedResidual as InvertedResidual
from tinymvit.ops.layer_norm import LayerNorm as LayerNorm
from tinymvit.ops.linear import Linear as Linear
from tinymvit.ops.mean_pool import MeanPool as MeanPool
from tinymvit.ops.op import BUFFERS as BUFFERS
from tinymvit.ops.op import Array as Array
from tinymvit.ops.op import Input as Input
from tinymvit.ops.op import Op as Op
from tinymvit.ops.op import Shape as Shape
from tinymvit.ops.quantised import Dequantise as Dequantise
from tinymvit.ops.quantised import Quantisation as Quantisation
from tinymvit.ops.quantised import Quantise as Quantise
from tinymvit.ops.quantised import Quantised as Quantised
from tinymvit.ops.quantised import QuantisedActivation as QuantisedActivation
from tinymvit.ops.resize import Resize as Resize
from tinymvit.ops.unfold import Fold as Fold
from tinymvit.ops.unfold import Unfold as Unfold
