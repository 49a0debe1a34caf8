"""Making any picture fit the one that is sent: whole, undistorted, with black bars if need be."""

from __future__ import annotations

import av
import numpy as np

from .quality import Quality


def fit(picture: av.VideoFrame, quality: Quality) -> av.VideoFrame:
    """
    Return a picture as yuv420p of the quality's size, its aspect kept (pixels taken as square).

    Args:
        picture: Of any size and format; returned itself if it already fits.
    """
    width, height = quality.width, quality.height
    scale = min(width / picture.width, height / picture.height)
    inner_width = min(width, max(2, round(picture.width * scale / 2) * 2))
    inner_height = min(height, max(2, round(picture.height * scale / 2) * 2))
    if (picture.width, picture.height, picture.format.name) == (width, height, "yuv420p"):
        return picture
    inner = picture.reformat(width=inner_width, height=inner_height, format="yuv420p")
    if (inner_width, inner_height) == (width, height):
        return inner

    source = inner.to_ndarray()
    target = np.full((height * 3 // 2, width), 128, np.uint8)
    target[:height] = 16  # black in limited range, ITU-R BT.601
    top, left = (height - inner_height) // 4 * 2, (width - inner_width) // 4 * 2
    target[top : top + inner_height, left : left + inner_width] = source[:inner_height]
    chroma = target[height:].reshape(2, height // 2, width // 2)
    chroma[:, top // 2 : (top + inner_height) // 2, left // 2 : (left + inner_width) // 2] = (
        source[inner_height:].reshape(2, inner_height // 2, inner_width // 2)
    )
    return av.VideoFrame.from_ndarray(target, format="yuv420p")
