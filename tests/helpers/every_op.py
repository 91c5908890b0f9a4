"""Every kernel once, for tests of what must hold for all of them; also in processes of their own, hence no PyTorch."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tinymvit import kernels


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def every_op(x, place=np.ascontiguousarray):
    """The results of all kernels on maps (B, 11, 13, 37), each (B, ...). `place` puts their inputs into memory."""

    def weights(*shape):
        return place(normal(len(shape), *shape))

    x = place(x)
    results = convolutions(x, weights) | token_ops(x, weights, place) | moving_ops(x, place)
    results |= {name: kernels.activate(x, name) for name in kernels.ACTIVATIONS}
    return {name: result.reshape(len(x), -1) for name, result in results.items()}


def convolutions(x, weights):
    dense, winograd = kernels.pack_conv2d(weights(53, 37, 3, 3)), kernels.pack_winograd(weights(53, 37, 3, 3))
    pointwise, depthwise = (
        kernels.pack_conv2d(weights(53, 37, 1, 1)),
        kernels.pack_depthwise_conv2d(weights(37, 1, 3, 3)),
    )
    grouped = kernels.pack_conv2d(weights(37, 1, 2, 2), groups=37)
    filters, reduce = kernels.pack_depthwise_conv2d(weights(53, 1, 3, 3)), kernels.pack_conv2d(weights(37, 53, 1, 1))
    bias, narrow_bias = weights(53), weights(37)
    three = kernels.pack_inverted_residual(pointwise, bias, filters, bias, reduce, narrow_bias)
    return {
        "dense": kernels.conv2d(x, dense, bias, padding=1, activation="silu"),
        "grouped": kernels.conv2d(x, grouped, narrow_bias, padding=1, dilation=2),
        "winograd": kernels.winograd(x, winograd, bias, activation="silu"),
        "1x1": kernels.conv2d(x, pointwise, bias),
        "depthwise": kernels.depthwise_conv2d(x, depthwise, None, stride=2),
        "inverted residual": kernels.inverted_residual(x, three, residual=True),
    }


def token_ops(x, weights, place):
    tokens = kernels.unfold(place(x[:, :10, :12, :36]), 2, 2)
    query, key, value = place(tokens), place(tokens[:, ::-1]), place(tokens * 2)
    return {
        "linear": kernels.linear(x, kernels.pack_linear(weights(20, 37)), None, activation="gelu"),
        "matrix_vector": kernels.matrix_vector(place(x[:, 0, 0]), kernels.pack_linear(weights(70, 37)), weights(70)),
        "layer_norm": kernels.layer_norm(x, weights(37), weights(37), 1e-5),
        "batch_norm": kernels.batch_norm(x, kernels.pack_batch_norm(*[weights(37)] * 3, np.abs(weights(37)), 1e-5)),
        "attention": kernels.attention(query, key, value, 4),
        "fold": kernels.fold(place(tokens), len(x), 10, 12, 2, 2),
    }


def moving_ops(x, place):
    return {
        "resize": kernels.resize_bilinear(x, 5, 29),
        "mean_pool": kernels.mean_pool(x),
        "add": kernels.add(x, x),
        "concat": kernels.concat([x, place(x[..., :5])]),
    }


def run_python(program, **environment):
    """What a new process prints. The program may use `np`, `kernels`, `normal` and `every_op`."""
    program = "import numpy as np\nfrom every_op import every_op, normal\nfrom tinymvit import kernels\n" + program
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)} | environment
    process = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout


@contextmanager
def threads(count):
    """Within it, kernels work on so many threads."""
    before = kernels.get_num_threads()
    kernels.set_num_threads(count)
    try:
        yield
    finally:
        kernels.set_num_threads(before)
