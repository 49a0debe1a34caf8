"""What a picture is encoded to: its size, its rate and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..core.policy import check
from ..errors import ConfigError


_LIMITS: Final = {
    "width": {"low": 160, "high": 3840, "unit": "pixel"},
    "height": {"low": 90, "high": 2160, "unit": "pixel"},
    "frame_rate": {"low": 1.0, "high": 60.0, "unit": "1/s"},
    "bitrate_bps": {"low": 50_000, "high": 20_000_000, "unit": "bit/s"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """
    The picture that is sent.

    Attributes:
        width: Width [pixel], even.
        height: Height [pixel], even.
        frame_rate: Pictures per second at most [1/s]; a slower source keeps its own rate.
        bitrate_bps: What the encoder aims at [bit/s].

    Raises:
        ConfigError: A value is outside its limits; the message names the field and the limits.
    """

    width: int = 640
    height: int = 360
    frame_rate: float = 30.0
    bitrate_bps: int = 1_000_000

    def __post_init__(self) -> None:
        for name, limits in _LIMITS.items():
            value = getattr(self, name)
            if value is None:
                raise ConfigError(f"{name} = None is not possible: give a number")
            check(name, value, limits)
        for name in ("width", "height"):
            value = getattr(self, name)
            if value % 2:  # 4:2:0 halves the chroma planes; this refuses 360.5 as well
                raise ConfigError(f"{name} = {value!r} is not possible: give an even number")
        if not isinstance(self.bitrate_bps, int):
            raise ConfigError(
                f"bitrate_bps = {self.bitrate_bps!r} is not possible: give a whole number"
            )
