"""
The test picture and the test sound: made so that a viewer can count exactly what it was shown.

A number in the picture survives encoding, scaling and any provider, so lost, repeated and late
frames are exact whatever the transport did to sequence numbers and timestamps. The sound tells
the time in 20 ms slots, so the same is known of it.

Measured: of 150 pictures for each of VP8 and H.264, 300 kbit/s and 2 Mbit/s, 320x180, 640x360
and 1280x720, and of 1 000 slots after Opus at 64 kbit/s (mono) and 96 kbit/s (stereo), none was
misread and none unreadable. Below 32 kbit/s slots are misread. Drawing 640x360 takes 0.05 ms,
reading it 0.11 ms, reading a slot 0.02 ms. `tests/unit/media/test_pattern.py` keeps watch.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt


Luma = npt.NDArray[np.uint8]
"""One plane of brightness, uint8 [height, width]."""

NUMBER_BITS: Final = 24
"""Numbers wrap after 2^24 pictures: 6.5 days at 30 a second."""

_CELLS: Final = 32
_BLACK, _GREY, _WHITE = 16, 126, 235
"""Brightness of black, the threshold and white: limited range of ITU-R BT.601 section 2.5.3."""

_CONTRAST: Final = 35
"""A cell nearer to grey than this is unreadable: a third of what black and white differ by."""

SAMPLE_RATE: Final = 48_000
SLOT: Final = 960
"""Samples of one slot: 20 ms, the packet of Opus (RFC 6716 section 2.1.4)."""

SLOT_S: Final = SLOT / SAMPLE_RATE
SLOTS: Final = 256
"""Slots that can be told apart; `SlotReader` counts the rounds of 5.12 s."""

OPUS_LOOKAHEAD: Final = 312
"""Samples by which libopus delays the sound at 48 kHz (`OPUS_GET_LOOKAHEAD`): the first 6.5 ms
of a decoded packet belong to the slot before."""


def _crc8(number: int) -> int:
    """Return the CRC-8 of three bytes (polynomial 0x07, ITU-T I.432.1 with no final XOR)."""
    crc = 0xFF  # not 0: an all-black strip must not read as number 0
    for byte in number.to_bytes(3, "big"):
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc


def _strip_height(height: int) -> int:
    """Return the rows of the strip: one macroblock at 180 lines, even for the chroma planes."""
    return max(16, height // 24 * 2)


# Digits of 3 x 5 cells, one row of bits a line: for people who watch.
_DIGITS: Final = (
    "111101101101111 010110010010111 111001111100111 111001111001111 101101111001001 "
    "111100111001111 111100111101111 111001010010010 111101111101111 111101111001111"
)


class TestPicture:
    """
    A picture that shows its own number, twice: as 32 cells for machines, as digits for people.

    Below the strip a landscape of colour drifts to the left, and a disc swings once in two
    seconds at 30 pictures a second: a freeze is plain to see.

    Args:
        width: Width [pixel], even, at least 160.
        height: Height [pixel], even, at least 90.
    """

    __test__ = False  # the name is not a test's

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._strip = _strip_height(height)
        self._picture = np.full((height * 3 // 2, width), 128, np.uint8)
        self._edges = [width * cell // _CELLS for cell in range(_CELLS + 1)]
        self._wide = self._landscape()
        self._disc, self._radius = self._make_disc()
        size = max(2, height // 90)
        self._digits = [
            np.kron(
                np.array([int(bit) for bit in glyph], np.uint8).reshape(5, 3),
                np.ones((size, size), np.uint8),
            )
            * np.uint8(_WHITE - _BLACK)
            + np.uint8(_BLACK)
            for glyph in _DIGITS.split()
        ]

    def draw(self, number: int) -> npt.NDArray[np.uint8]:
        """
        Draw one picture.

        Returns:
            uint8 [height * 3 / 2, width], yuv420p; drawn over by the next call.
        """
        number %= 1 << NUMBER_BITS
        height, width, strip = self.height, self.width, self._strip
        picture = self._picture
        shift = number % (width // 2) * 2
        for plane, wide in zip(self._planes(picture), self._wide, strict=True):
            at = shift * wide.shape[1] // (2 * width)
            plane[:] = wide[:, at : at + plane.shape[1]]
        self._draw_disc(number)
        self._draw_digits(number)

        bits = number << 8 | _crc8(number)
        for cell in range(_CELLS):
            white = bits >> (_CELLS - 1 - cell) & 1
            picture[:strip, self._edges[cell] : self._edges[cell + 1]] = (
                _WHITE if white else _BLACK
            )
        chroma = picture[height:].reshape(2, height // 2, width // 2)
        chroma[:, : strip // 2] = 128
        return picture

    def _planes(self, picture: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
        height, width = self.height, self.width
        chroma = picture[height:].reshape(2, height // 2, width // 2)
        return [picture[:height], chroma[0], chroma[1]]

    def _landscape(self) -> list[npt.NDArray[np.uint8]]:
        """Return Y, U and V of a background twice as wide as the picture and seamless."""
        planes = []
        for part, low, high, turns in ((1, 60, 140, 2), (2, 96, 160, 1), (2, 96, 160, 3)):
            height, width = self.height // part, self.width // part
            across = np.linspace(0, 4 * np.pi, 2 * width, endpoint=False)
            down = np.linspace(0, np.pi, height)[:, None]
            wave = np.sin(turns * across + 2 * down) * 0.7 + np.cos(across - 3 * down) * 0.3
            planes.append((low + (high - low) * (wave + 1) / 2).astype(np.uint8))
        return planes

    def _make_disc(self) -> tuple[npt.NDArray[np.bool_], int]:
        radius = self.height // 10
        across = np.arange(-radius, radius)
        return across[None, :] ** 2 + across[:, None] ** 2 < radius**2, radius

    def _draw_disc(self, number: int) -> None:
        radius, strip = self._radius, self._strip
        swing = np.sin(2 * np.pi * (number % 60) / 60)
        left = int((self.width - 2 * radius) * (0.5 + 0.4 * swing))
        top = strip + int((self.height - strip - 2 * radius) * (0.35 + 0.15 * swing * swing))
        box = self._picture[top : top + 2 * radius, left : left + 2 * radius]
        box[self._disc] = _WHITE

    def _draw_digits(self, number: int) -> None:
        rows, columns = self._digits[0].shape
        top = self.height - 2 * rows
        left = self.width - 9 * (columns + columns // 3)
        for digit in f"{number:08d}":
            self._picture[top : top + rows, left : left + columns] = self._digits[int(digit)]
            left += columns + columns // 3


def read_number(luma: Luma) -> int | None:
    """
    Read the number of a test picture.

    Args:
        luma: The decoded picture's brightness, uint8 [height, width], of any size.

    Returns:
        The number; None if this is no test picture or it is damaged.
    """
    height, width = luma.shape
    if height < 16 or width < 2 * _CELLS:
        return None
    strip = _strip_height(height)
    rows = luma[strip // 4 : strip - strip // 4]
    middle = rows.mean(axis=0)
    edges = np.arange(_CELLS) * width / _CELLS
    inset = max(1, width // (4 * _CELLS))
    means = np.array(
        [middle[int(left) + inset : int(left + width / _CELLS) - inset].mean() for left in edges]
    )
    if np.abs(means - _GREY).min() < _CONTRAST:
        return None  # a picture of something else passes the CRC once in 256, but not this too
    bits = int.from_bytes(np.packbits(means > _GREY).tobytes(), "big")
    number, crc = bits >> 8, bits & 0xFF
    return number if _crc8(number) == crc else None


# All tones are multiples of 50 Hz, so each fits a slot in whole periods and begins and ends at
# zero: the sound is continuous from slot to slot without fades. Neighbours are 150 Hz apart, two
# bins of the window below, where the leakage of a Hann window is zero.
_SLOW_HZ: Final = 400 + 150 * np.arange(16)
_FAST_HZ: Final = 3_100 + 150 * np.arange(16)
_AMPLITUDE: Final = 5_000
_READ: Final = SLOT - OPUS_LOOKAHEAD
_DOMINANCE: Final = 2.0
"""A tone is believed if it is this much stronger than the next one of its group."""


def _tones(hertz: npt.NDArray[np.int_]) -> npt.NDArray[np.float64]:
    time = np.arange(SLOT) / SAMPLE_RATE
    return np.sin(2 * np.pi * hertz[:, None] * time)


_WINDOW: Final = np.hanning(_READ) / (_READ / 4)
_BINS: Final = np.concatenate([_SLOW_HZ, _FAST_HZ]) // (SAMPLE_RATE // SLOT)


class TestSound:
    """
    A sound that tells the time: slot n carries tone n % 16 over tone n // 16 % 16.

    The lower of the two changes every 320 ms, as a tune does; the upper one every slot.

    Args:
        channels: 1 or 2; both carry the same.
    """

    __test__ = False  # the name is not a test's

    def __init__(self, channels: int = 2) -> None:
        self.channels = channels
        self._slow, self._fast = _tones(_SLOW_HZ), 0.6 * _tones(_FAST_HZ)

    def slot(self, number: int) -> npt.NDArray[np.int16]:
        """Return slot `number`: int16 [960, channel] at 48 kHz."""
        wave = self._slow[number // 16 % 16] + self._fast[number % 16]
        mono = (_AMPLITUDE * wave).astype(np.int16)
        return np.repeat(mono[:, None], self.channels, axis=1)


def read_slot(samples: npt.NDArray[np.int16]) -> int | None:
    """
    Read the slot of one decoded packet of the test sound.

    Args:
        samples: One channel of one packet, int16 [960] at 48 kHz.

    Returns:
        The slot modulo 256; None if this is not the test sound, or it is damaged.
    """
    if len(samples) != SLOT:
        return None
    # Padded to a whole slot, so that each tone has a bin of its own. No matrix product: BLAS
    # would start threads that spin between packets (measured: a whole core).
    strength = np.abs(np.fft.rfft(samples[OPUS_LOOKAHEAD:] * _WINDOW, SLOT)[_BINS])
    slot = 0
    for group in (strength[:16], strength[16:]):
        best = int(group.argmax())
        rest = np.delete(group, best).max()
        if group[best] < _AMPLITUDE / 10 or group[best] < _DOMINANCE * rest:
            return None
        slot = slot * 16 + best
    return slot


class SlotReader:
    """Counts on from slot to slot where `read_slot` only knows the slot modulo 256."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None

    def expect(self, slot: int, at_s: float) -> None:
        """Say which slot is due at `at_s` [s], so that the first one read is absolute."""
        self._last = slot, at_s

    def read(self, samples: npt.NDArray[np.int16], at_s: float) -> int | None:
        """
        Read one decoded packet.

        Args:
            samples: One channel of it, int16 [960] at 48 kHz.
            at_s: When it was shown [s]; right to within 2.5 s of the slot's own pace.

        Returns:
            The slot, counted on without wrapping; None as for `read_slot`.
        """
        slot = read_slot(samples)
        if slot is None:
            return None
        if self._last is not None:
            last, last_s = self._last
            due = last + round((at_s - last_s) / SLOT_S)
            slot = due + (slot - due + SLOTS // 2) % SLOTS - SLOTS // 2
        # Counted on from the newest: clocks that drift apart (50 ppm: 4 s a day) do no harm.
        self._last = slot, at_s
        return slot
