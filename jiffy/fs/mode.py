"""How roots get their lower layers."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """`LAYERED`: the kernel joins EROFS images with objects, and asks for those that it lacks. `PLAIN`: each layer is a FUSE
    filesystem, which needs nothing of newer kernels."""

    LAYERED = "layered"
    PLAIN = "plain"
