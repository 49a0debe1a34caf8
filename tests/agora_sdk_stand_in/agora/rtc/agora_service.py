"""
Service, connection and local user (stand-in).

A channel's name says what happens in it; in all others uid 1 publishes a tone, and pictures that
are none but have what marks a keyframe.

    nobody          nobody publishes
    mute            somebody is there, and nothing of him
    sound           no pictures
    h264            pictures in H.264, with start codes of three bytes
    av1             pictures in AV1
    mono            sound at 16 kHz, mono
    stops           nothing more after half a second
    interrupted     reconnecting after half a second
    expired         the token expires after half a second, unless it was renewed
    no-project      error 101, with words that must not be repeated
    odd             an error that no document knows, and media all the same
    broken          `connect` raises what nobody expects
    crowd           uid 70000, who may not publish, and uid 2 publish as well
    flood           1500 pictures in 1500 ms, after the first ones
    never-leaves    `disconnect` does not return

A token that does not begin with 007 is invalid (reason 8).
"""

from __future__ import annotations

import array
import itertools
import math
import threading
import time
from pathlib import Path

from .agora_base import AudioFrame, ClientRoleType, EncodedVideoFrameInfo


RATE = 48_000
TONE_HZ = 440
H264 = b"\x00\x00\x01\x67\x42\x00\x00\x01\x68\xce\x00\x00\x01\x65"


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251 -- no loop here


class LocalUser:
    def __init__(self) -> None:
        self.options, self.form = None, None

    def set_playback_audio_frame_before_mixing_parameters(self, channels, sample_rate_hz):
        self.form = channels, sample_rate_hz
        return 0

    def subscribe_all_audio(self):
        return 0

    def subscribe_all_video(self, options):
        self.options = options
        return 0


class RTCConnection:
    def __init__(self, conn_config, publish_config) -> None:
        assert conn_config.client_role_type is ClientRoleType.CLIENT_ROLE_AUDIENCE
        assert not publish_config.is_publish_audio
        self._user = LocalUser()
        self._conn = self._audio = self._video = None
        self._channel, self._begun = "", 0.0
        self._gone = threading.Event()
        self._keyframe = threading.Event()
        self._renewed = threading.Event()

    def get_local_user(self):
        return self._user

    def register_observer(self, observer):
        self._conn = observer

    def register_audio_frame_observer(self, observer, enable_vad, vad_configure):
        assert self._user.form == (2, RATE)  # set before, or it does not hold
        self._audio = observer

    def register_video_encoded_frame_observer(self, observer):
        self._video = observer

    def connect(self, token, channel, user_id):
        if not channel:
            return -2
        if channel == "broken":
            raise AttributeError(token)
        self._channel, self._begun = channel, _now_s()
        threading.Thread(target=self._run, args=(token,), daemon=True).start()
        return 0

    def disconnect(self):
        if self._channel == "never-leaves":
            time.sleep(60)
        self._gone.set()
        self._conn.on_disconnected(self, None, 5)
        return 0

    def release(self):
        self._conn = self._audio = self._video = None

    def renew_token(self, token):
        if not token.startswith("007"):
            return -110
        self._renewed.set()
        return 0

    def send_intra_request(self, remote_uid):
        assert remote_uid == "1"
        self._keyframe.set()
        return 0

    # --- In a thread of the SDK ---

    def _run(self, token):
        self._conn.on_connecting(self, None, 0)
        if not token.startswith("007"):
            self._conn.on_connection_failure(self, None, 8)
            return
        self._conn.on_connected(self, None, 1)
        if self._channel == "nobody":
            return
        code = {"no-project": 101, "odd": 9999}.get(self._channel)
        if code is not None:
            self._conn.on_error(self, code, f"no such project for {token}")
        self._conn.on_user_joined(self, "1")
        if self._channel == "mute":
            return
        self._keyframe.set()
        for number in itertools.count():
            due = self._begun + number / 100
            if self._gone.wait(max(due - _now_s(), 0)):
                return
            if number == 50 and self._ends():
                return
            self._sound(number)
            if number % 4 == 0 and self._channel != "sound":
                self._picture(number)
            if number == 40 and self._channel == "flood":
                self._flood(number)

    def _flood(self, number):
        for extra in range(1500):
            self._show(1, number, b"flood" + extra.to_bytes(2, "big"))
            self._gone.wait(0.001)

    def _ends(self) -> bool:
        if self._channel == "interrupted":
            self._conn.on_reconnecting(self, None, 2)
        if self._channel == "expired" and self._renewed.is_set():
            return False
        if self._channel == "expired":
            self._conn.on_token_privilege_did_expire(self)
        return self._channel in ("stops", "interrupted", "expired")

    def _sound(self, number):
        rate, channels = (16_000, 1) if self._channel == "mono" else (RATE, 2)
        wave = (
            round(10_000 * math.sin(2 * math.pi * TONE_HZ * (number * 480 + at) / RATE))
            for at in range(rate // 100)
        )
        samples = array.array("h", (value for value in wave for _ in range(channels)))
        frame = AudioFrame(
            samples_per_channel=rate // 100,
            bytes_per_sample=2,
            channels=channels,
            samples_per_sec=rate,
            buffer=bytearray(samples.tobytes()),
            presentation_ms=1_000_000 + number * 10,
        )
        self._audio.on_playback_audio_frame_before_mixing(
            self._user, self._channel, "1", frame, -1, None
        )

    def _picture(self, number):
        if self._channel == "crowd":
            self._show(70_000, number, b"stranger")
        self._show(1, number, b"picture" + number.to_bytes(2, "big"))
        if self._channel == "crowd":
            self._show(2, number, b"other")

    def _show(self, uid, number, data):
        assert self._user.options.encodedFrameOnly
        is_key = uid != 1 or self._keyframe.is_set()
        if uid == 1:
            self._keyframe.clear()
        codec = {"h264": 2, "av1": 12}.get(self._channel, 1)
        head = (H264 if is_key else b"\x00\x00\x01\x41") if codec == 2 else bytes([not is_key])
        info = EncodedVideoFrameInfo(
            codec_type=codec,
            frame_type=3 if is_key else 4,
            uid=uid,
            presentation_ms=1_000_000 + number * 10,
        )
        whole = head + data
        self._video.on_encoded_video_frame(uid, whole, len(whole), info)


class AgoraService:
    def __init__(self) -> None:
        self.inited = False

    def initialize(self, config):
        self.inited = len(config.appid) == 32
        Path(config.log_path).write_text("a log of the SDK's own")

    def create_rtc_connection(self, conn_config, publish_config):
        return RTCConnection(conn_config, publish_config)

    def release(self):
        self.inited = False
