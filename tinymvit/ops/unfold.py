"""Unfolding a map into sequences of tokens, and folding them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymvit.ops.op import Array, Op, Shape


@dataclass(frozen=True)
class Unfold(Op):
    """A map becomes sequences of tokens, `(B, D, H, W)` to `(B P, N, D)`, with patches of `patch_height x patch_width`
    (ph x pw) pixels, P pixels in a patch and N = H W / P patches. **The pixels at one position inside all the patches
    form one sequence**, so attention runs across patches and never inside one (paper, section 3.1):

        tokens[b P + (y mod ph) pw + (x mod pw), (y div ph) (W / pw) + (x div pw), d] = map[b, d, y, x]

    Numbers only move.
    """

    only_moves: ClassVar[bool] = True
    patch_height: int
    patch_width: int

    def output_shape(self, *inputs: Shape) -> Shape:
        batch, width_of_token, height, width = inputs[0]
        area = self.patch_height * self.patch_width
        return (batch * area, height * width // area, width_of_token)

    def compute(self, x: Array) -> Array:
        """x (B, D, H, W) -> (B P, N, D), of x's dtype. Raises ValueError if the patches do not divide the map."""
        batch, width, height_of_map, width_of_map = x.shape
        ph, pw = self.patch_height, self.patch_width
        x = x.reshape(batch, width, height_of_map // ph, ph, width_of_map // pw, pw)
        x = x.transpose(0, 3, 5, 2, 4, 1)  # (B, ph, pw, H / ph, W / pw, D)
        return x.reshape(batch * ph * pw, -1, width)  # (B P, N, D)


@dataclass(frozen=True)
class Fold(Op):
    """The inverse of `Unfold`: `(B P, N, D)` becomes `(B, D, height, width)`.

        map[b, d, y, x] = tokens[b P + (y mod ph) pw + (x mod pw), (y div ph) (W / pw) + (x div pw), d]

    Numbers only move. `height` and `width` are the map's after the resizing, since they cannot be told from N alone: 12
    patches may lie 3 x 4 or 2 x 6.
    """

    only_moves: ClassVar[bool] = True
    patch_height: int
    patch_width: int
    height: int
    width: int

    def output_shape(self, *inputs: Shape) -> Shape:
        sequences, _, width_of_token = inputs[0]
        return (sequences // (self.patch_height * self.patch_width), width_of_token, self.height, self.width)

    def compute(self, x: Array) -> Array:
        """x (B P, N, D) -> (B, D, height, width), of x's dtype. Raises ValueError if the tokens do not fill maps."""
        ph, pw = self.patch_height, self.patch_width
        x = x.reshape(-1, ph, pw, self.height // ph, self.width // pw, x.shape[-1])
        x = x.transpose(0, 5, 3, 1, 4, 2)  # (B, D, H / ph, ph, W / pw, pw)
        return x.reshape(x.shape[0], x.shape[1], self.height, self.width)
