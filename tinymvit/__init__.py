"""tinymvit: MobileViT from scratch on NumPy and Numba."""

from tinymvit.version import __version__

__all__ = ["__version__"]
