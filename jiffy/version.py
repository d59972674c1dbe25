"""The version of this jiffy, as it was installed."""

from __future__ import annotations

from importlib import metadata
from typing import Final

VERSION: Final = metadata.version("jiffy")
