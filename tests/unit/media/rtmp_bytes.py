"""What tests of RTMP's bytes are made of."""

from __future__ import annotations

from hypothesis import strategies as st


START = b"\x00\x00\x00\x01"
SPS, PPS, IDR, DELTA = (START + bytes([kind, 66, 192, 30, kind]) for kind in (0x67, 0x68, 5, 1))

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)
