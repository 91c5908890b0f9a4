"""The graph: a model as named operations in the order they run.

An *op* is a small frozen dataclass: its attributes, the shapes of its weights and of its output, its multiply-adds.
A *node* is an op in its place: its name, the names of its inputs and of its weight tensors, its output shape.
`model` writes graphs down; `reference`, `engine` and `summary` read them. How an op is computed is not said here.

Shapes are the public ones, channels first. Legend, the same in every file:
    B batch   C channels   H W height and width   P pixels in a patch   N patches   D token width   h heads
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

Shape = tuple[int, ...]

BUFFERS = ("running_mean", "running_var")  # tensors that PyTorch does not count as parameters


@dataclass(frozen=True)
class Op:
    """What every op answers; the defaults suit an op without weights and without products."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape of the output for inputs of these shapes; by default the first input's."""
        return inputs[0]

    def weight_shapes(self) -> dict[str, Shape]:
        """Shape of each weight tensor by its role, which is the last part of its name in a checkpoint."""
        return {}

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        """Multiply-adds of the op's products. Sums, means and elementwise functions count as none."""
        return 0


# ---- the ops of a model, in the order a reader meets them ----


@dataclass(frozen=True)
class Input(Op):
    """The pixels: (B, C, H, W), BGR, 0 to 1."""


@dataclass(frozen=True)
class Conv2d(Op):
    """(B, C, H, W) -> (B, out_channels, H', W'), zeros around the edge. Depthwise when groups equals both channels."""

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    bias: bool = False

    @property
    def depthwise(self) -> bool:
        """Whether each channel is filtered by itself."""
        return self.groups == self.in_channels == self.out_channels > 1

    def output_shape(self, *inputs: Shape) -> Shape:
        batch, _, height, width = inputs[0]
        reach = self.dilation * (self.kernel_size - 1) - 2 * self.padding
        return (
            batch,
            self.out_channels,
            (height - reach - 1) // self.stride + 1,
            (width - reach - 1) // self.stride + 1,
        )

    def weight_shapes(self) -> dict[str, Shape]:
        weight = (self.out_channels, self.in_channels // self.groups, self.kernel_size, self.kernel_size)
        return {"weight": weight} | ({"bias": (self.out_channels,)} if self.bias else {})

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return math.prod(output) * self.in_channels // self.groups * self.kernel_size**2


@dataclass(frozen=True)
class BatchNorm(Op):
    """(x - running_mean) / sqrt(running_var + eps) * weight + bias, channel by channel."""

    channels: int
    eps: float = 1e-5

    def weight_shapes(self) -> dict[str, Shape]:
        return dict.fromkeys(("weight", "bias", *BUFFERS), (self.channels,))


@dataclass(frozen=True)
class Activation(Op):
    """An elementwise function: a name of `tinymvit.config.ACTIVATIONS`' values, or a callable on arrays."""

    function: str | Callable


@dataclass(frozen=True)
class Add(Op):
    """The sum of two inputs of one shape: a residual connection."""


@dataclass(frozen=True)
class Concat(Op):
    """Inputs one after the other along the channels."""

    def output_shape(self, *inputs: Shape) -> Shape:
        batch, _, height, width = inputs[0]
        return (batch, sum(shape[1] for shape in inputs), height, width)


@dataclass(frozen=True)
class Resize(Op):
    """Bilinear interpolation to (B, C, height, width), align_corners=False."""

    height: int
    width: int

    def output_shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:2], self.height, self.width)


@dataclass(frozen=True)
class Unfold(Op):
    """A map to sequences of tokens: (B, D, H, W) -> (B P, N, D). The pixels at one position inside all the patches
    form one sequence, so attention runs across patches and never inside one (paper, section 3.1)."""

    patch_height: int
    patch_width: int

    def output_shape(self, *inputs: Shape) -> Shape:
        batch, width_of_token, height, width = inputs[0]
        area = self.patch_height * self.patch_width
        return (batch * area, height * width // area, width_of_token)


@dataclass(frozen=True)
class Fold(Op):
    """The inverse of `Unfold`: (B P, N, D) -> (B, D, height, width)."""

    patch_height: int
    patch_width: int
    height: int
    width: int

    def output_shape(self, *inputs: Shape) -> Shape:
        sequences, _, width_of_token = inputs[0]
        return (sequences // (self.patch_height * self.patch_width), width_of_token, self.height, self.width)


@dataclass(frozen=True)
class LayerNorm(Op):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis, biased variance."""

    width: int
    eps: float

    def weight_shapes(self) -> dict[str, Shape]:
        return {"weight": (self.width,), "bias": (self.width,)}


@dataclass(frozen=True)
class Linear(Op):
    """x weight^T + bias over the last axis."""

    in_features: int
    out_features: int
    bias: bool = True

    def output_shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:-1], self.out_features)

    def weight_shapes(self) -> dict[str, Shape]:
        weight = {"weight": (self.out_features, self.in_features)}
        return weight | ({"bias": (self.out_features,)} if self.bias else {})

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return math.prod(output) * self.in_features


@dataclass(frozen=True)
class Scores(Op):
    """Query times key, head by head, over sqrt(D / h): two (B P, N, D) -> (B P, h, N, N)."""

    heads: int

    def output_shape(self, *inputs: Shape) -> Shape:
        sequences, tokens, _ = inputs[0]
        return (sequences, self.heads, tokens, tokens)

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return math.prod(inputs[0]) * inputs[1][1]


@dataclass(frozen=True)
class Softmax(Op):
    """e^x over the sum of e^x along the last axis: scores to attention probabilities."""


@dataclass(frozen=True)
class Context(Op):
    """Probabilities times value, head by head, the heads side by side again:
    (B P, h, N, N) and (B P, N, D) -> (B P, N, D)."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[1]

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return math.prod(output) * inputs[0][-1]


@dataclass(frozen=True)
class MeanPool(Op):
    """The mean over height and width: (B, C, H, W) -> (B, C), or (B, C, 1, 1) with keep_dims."""

    keep_dims: bool = False

    def output_shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:2], 1, 1) if self.keep_dims else inputs[0][:2]


# ---- ops that only the engine's passes make ----


@dataclass(frozen=True)
class Attention(Op):
    """`Scores`, `Softmax` and `Context` in one: query, key and value (B P, N, D) -> (B P, N, D)."""

    heads: int

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return 2 * math.prod(inputs[0]) * inputs[1][1]


@dataclass(frozen=True)
class Fused(Op):
    """A convolution or linear op, then an activation, then the sum with the last input if `residual`."""

    op: Conv2d | Linear
    activation: str = "identity"
    residual: bool = False

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.op.output_shape(inputs[0])

    def weight_shapes(self) -> dict[str, Shape]:
        return self.op.weight_shapes()

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return self.op.multiply_adds(output, *inputs)


@dataclass(frozen=True)
class Winograd(Conv2d):
    """A 3x3 convolution that keeps the map's size, by Winograd's method: 16 multiplications for each 2x2 outputs."""

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        batch, channels, height, width = output
        return batch * channels * ((height + 1) // 2) * ((width + 1) // 2) * 16 * self.in_channels


@dataclass(frozen=True)
class InvertedResidual(Op):
    """A 1x1 convolution and an activation, a depthwise one and the activation again, a 1x1 convolution; then the sum
    with the input if `residual`. The convolutions have biases."""

    expand: Conv2d
    depthwise: Conv2d
    reduce: Conv2d
    activation: str
    residual: bool = False

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.reduce.output_shape(self.depthwise.output_shape(self.expand.output_shape(inputs[0])))

    def weight_shapes(self) -> dict[str, Shape]:
        layers = {"expand": self.expand, "depthwise": self.depthwise, "reduce": self.reduce}
        return {
            f"{name}.{role}": shape for name, layer in layers.items() for role, shape in layer.weight_shapes().items()
        }

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        wide = self.expand.output_shape(inputs[0])
        filtered = self.depthwise.output_shape(wide)
        return (
            self.expand.multiply_adds(wide, inputs[0])
            + self.depthwise.multiply_adds(filtered, wide)
            + self.reduce.multiply_adds(output, filtered)
        )


# ---- the graph ----


@dataclass(frozen=True)
class Node:
    """An op in its place. `name` is the PyTorch path of the module whose output this is, where there is one."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    weights: tuple[str, ...]  # names of the tensors, in the order of op.weight_shapes()
    shape: Shape


@dataclass
class Graph:
    """Nodes in the order they run.

    `modules` names, for each PyTorch module that is not itself a node (a block, a dropout), the node whose output is
    the module's output. `outputs` maps a result's public name ("logits", "hidden_states.0") to its node.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, op: Op, *inputs: Node) -> Node:
        """Append an op whose weights are named after the node, and return its node."""
        shape = op.output_shape(*(node.shape for node in inputs))
        weights = tuple(f"{name}.{role}" for role in op.weight_shapes())
        return self.append(Node(name, op, tuple(node.name for node in inputs), weights, shape))

    def append(self, node: Node) -> Node:
        """Append a finished node; its name must be new and its inputs known."""
        if node.name in self.nodes:
            raise ValueError(f"two nodes are named {node.name}")
        for name in node.inputs:
            if name not in self.nodes:
                raise ValueError(f"node {node.name} reads {name}, which no node before it makes")
        self.nodes[node.name] = node
        return node

    def module(self, path: str, node: Node) -> Node:
        """Record that `node`'s output is that of the PyTorch module at `path`."""
        if path != node.name:
            self.modules[path] = node.name
        return node

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, name: str) -> Node:
        """The node of this name, or the node whose output is that of the module of this name."""
        return self.nodes[self.modules.get(name, name)]

    def inputs_of(self, node: Node) -> list[Node]:
        return [self.nodes[name] for name in node.inputs]

    def multiply_adds(self, node: Node) -> int:
        """Multiply-adds of one node at its shapes."""
        return node.op.multiply_adds(node.shape, *(source.shape for source in self.inputs_of(node)))

    def weight_shapes(self) -> dict[str, Shape]:
        """Every weight tensor's name and shape, in the order of use: what a checkpoint must hold."""
        return {
            name: shape
            for node in self
            for name, shape in zip(node.weights, node.op.weight_shapes().values(), strict=True)
        }

    def select(self, outputs: Iterable[str]) -> Graph:
        """The part of the graph that these outputs need."""
        wanted = {name: self.outputs[name] for name in outputs}
        needed = set(wanted.values())
        for node in reversed(self.nodes.values()):
            if node.name in needed:
                needed.update(node.inputs)
        nodes = {name: node for name, node in self.nodes.items() if name in needed}
        return Graph(nodes, {path: name for path, name in self.modules.items() if name in needed}, wanted)


def parameters(node: Node) -> int:
    """The number of a node's parameters as PyTorch counts them: running statistics are none."""
    return sum(math.prod(shape) for role, shape in node.op.weight_shapes().items() if role not in BUFFERS)


def last_use(graph: Graph) -> Mapping[str, int]:
    """For each node, the position of the last node that reads it; an output is read at the end."""
    position = {name: index for index, name in enumerate(graph.nodes)}
    for index, node in enumerate(graph):
        for name in node.inputs:
            position[name] = index
    return position | dict.fromkeys(graph.outputs.values(), len(graph))
