"""
The process that holds Agora's native SDK: it joins one channel, and hands on what arrives.

Run as `python -m hitless.providers.agora_sdk_worker FOLDER` by `agora_sdk.py`; it obeys its
standard input (`sdk_wire.py`) and ends when that ends, so it never outlives the viewer.

It is a process of its own for what `agora-python-server-sdk` 2.4.10 does to the one that imports
it: TLS verification is switched off for all of it, a native library is loaded, downloaded first
if it is missing, without a check of what came, and progress is printed. Here nothing is
downloaded, and nothing that is there is removed: an SDK that is not whole fails.

The SDK's own rule is that its callbacks do no work and call nothing of it: they copy, and leave.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

from . import sdk_wire as wire
from .sdk_wire import Fault, Order, Word
from .sdk_worker import Outbox, end, listen, private_output


_CODECS: Final = {1: 1, 2: 2, 7: 2}
"""`VideoCodecType` of the SDK: VP8, H264 and generic H264, as what they are told to the viewer."""

_EXPIRED: Final = 9  # reason of a connection change: the token has expired
_LOST: Final = 112  # error code: the connection is lost for 10 s
_UNEXPECTED: Final = -1  # no number of the SDK's: its call failed in a way of its own
_ORDERS_MAX: Final = 64


class Watcher:
    """
    Takes what the SDK tells: the methods are those of its three observers.

    It follows the first publisher it hears of, so that frames of two are never mixed.

    Args:
        outbox: Where to put it.
        publishers: Uids of those who are listened to.
    """

    def __init__(self, outbox: Outbox, publishers: range) -> None:
        self._outbox, self._publishers = outbox, publishers
        self._lock = threading.Lock()
        self.uid: int | None = None
        """Whom it follows; None: nobody yet."""

    def fail(self, what: Fault, number: int) -> None:
        """Say that it is over."""
        self._outbox.put(Word.FAILED, wire.FAILED.pack(what, number))

    # --- IRTCConnectionObserver, in threads of the SDK ---

    def on_connected(self, connection: Any, info: Any, reason: int) -> None:
        self._outbox.put(Word.CONNECTED)

    def on_disconnected(self, connection: Any, info: Any, reason: int) -> None:
        self.fail(Fault.REASON, reason)

    def on_reconnecting(self, connection: Any, info: Any, reason: int) -> None:
        self.fail(Fault.REASON, reason)  # whether to try again is for the viewer to say

    def on_connection_lost(self, connection: Any, info: Any) -> None:
        self.fail(Fault.ERROR, _LOST)

    def on_connection_failure(self, connection: Any, info: Any, reason: int) -> None:
        self.fail(Fault.REASON, reason)

    def on_token_privilege_did_expire(self, connection: Any) -> None:
        self.fail(Fault.REASON, _EXPIRED)

    def on_error(self, connection: Any, code: int, text: str) -> None:
        self.fail(Fault.ERROR, code)  # the text may hold anything

    def on_user_joined(self, connection: Any, user_id: str) -> None:
        if _uid(user_id) in self._publishers:
            self._outbox.put(Word.HOST)

    # --- IVideoEncodedFrameObserver ---

    def on_encoded_video_frame(self, uid: int, data: bytes, length: int, info: Any) -> int:
        at_s = time.monotonic()  # noqa: TID251 -- it is what the viewer's loop.time() reads
        if self._is_followed(uid):
            codec = _CODECS.get(int(info.codec_type))
            if codec is None:
                self.fail(Fault.CODEC, int(info.codec_type))
            elif len(data) <= wire.BODY_MAX - wire.VIDEO.size:
                head = wire.VIDEO.pack(codec, at_s, int(info.presentation_ms))
                self._outbox.put(Word.VIDEO, head + bytes(data))
        return 1

    # --- IAudioFrameObserver ---

    def on_playback_audio_frame_before_mixing(
        self, user: Any, channel: str, uid: str, frame: Any, vad_state: int, vad_data: Any
    ) -> int:
        at_s = time.monotonic()  # noqa: TID251 -- it is what the viewer's loop.time() reads
        if self._is_followed(_uid(uid)):
            form = (frame.samples_per_sec, frame.channels, frame.bytes_per_sample)
            if form != (wire.SAMPLE_RATE, wire.CHANNELS, 2):
                self.fail(Fault.SOUND, int(frame.samples_per_sec))
            else:
                head = wire.AUDIO.pack(at_s, int(frame.presentation_ms))
                self._outbox.put(Word.AUDIO, head + bytes(frame.buffer))
        return 1

    def on_get_audio_frame_position(self, user: Any) -> int:
        return 8  # AUDIO_FRAME_POSITION_BEFORE_MIXING

    # --- Inside ---

    def __getattr__(self, name: str) -> Any:
        """Everything else that an observer may be told of is of no interest."""
        if name.startswith("on_"):
            return lambda *_: 1
        raise AttributeError(name)

    def _is_followed(self, uid: int) -> bool:
        with self._lock:
            if self.uid is None and uid in self._publishers:
                self.uid = uid
            return uid == self.uid


class Visit:
    """
    One stay in one channel.

    Args:
        said: The order to join, as it came.
        outbox: Where to tell what arrives.
        folder: Where the SDK may write.
    """

    def __init__(self, said: dict[str, Any], outbox: Outbox, folder: str) -> None:
        base = importlib.import_module("agora.rtc.agora_base")
        service = importlib.import_module("agora.rtc.agora_service")
        first, last = said["publishers"]
        self._watcher = Watcher(outbox, range(first, last + 1))
        self._service = service.AgoraService()
        self._service.initialize(
            base.AgoraServiceConfig(
                appid=said["app_id"],
                enable_video=1,
                log_path=os.path.join(folder, "sdk.log"),
                data_dir=folder,
                config_dir=folder,
            )
        )
        if not self._service.inited:
            raise RuntimeError("the SDK cannot be initialised")
        outbox.put(Word.READY)
        watcher, self._connection = self._watcher, self._connect(base)
        self._connection.register_observer(watcher)
        user = self._connection.get_local_user()
        # Before the observer is registered, says the SDK's README.
        user.set_playback_audio_frame_before_mixing_parameters(wire.CHANNELS, wire.SAMPLE_RATE)
        self._connection.register_audio_frame_observer(watcher, 0, None)
        self._connection.register_video_encoded_frame_observer(watcher)
        user.subscribe_all_audio()
        user.subscribe_all_video(base.VideoSubscriptionOptions(encodedFrameOnly=True))
        # A project without certificate takes the App ID instead: so do the SDK's own examples.
        token = said["token"] or said["app_id"]
        code = self._connection.connect(token, said["channel"], said["uid"])
        if code != 0:
            watcher.fail(Fault.ERROR, abs(code))

    def ask_keyframe(self) -> None:
        """Ask whom we follow for a keyframe."""
        if self._watcher.uid is not None:
            self._connection.send_intra_request(str(self._watcher.uid))

    def renew(self, token: str) -> int:
        """Go on with a new token; return what the SDK says to it: 0 if it takes it."""
        try:
            return int(self._connection.renew_token(token))
        except Exception:
            return _UNEXPECTED  # the token that is there still holds, and media go on

    def leave(self) -> None:
        """Leave the channel and release everything."""
        self._connection.disconnect()
        self._connection.release()
        self._service.release()

    def _connect(self, base: Any) -> Any:
        audience = base.RTCConnConfig(
            auto_subscribe_audio=1,
            auto_subscribe_video=0,  # subscribed to by hand: encoded frames only
            client_role_type=base.ClientRoleType.CLIENT_ROLE_AUDIENCE,
            channel_profile=base.ChannelProfileType.CHANNEL_PROFILE_LIVE_BROADCASTING,
        )
        nothing = base.RtcConnectionPublishConfig(
            audio_scenario=base.AudioScenarioType.AUDIO_SCENARIO_DEFAULT,
            is_publish_audio=False,
            is_publish_video=False,
        )
        return self._service.create_rtc_connection(audience, nothing)


def main() -> None:
    """Serve one viewer, and end."""
    folder = sys.argv[1]
    outbox = Outbox(private_output())
    orders: queue.Queue[tuple[int, bytes] | None] = queue.Queue(_ORDERS_MAX)

    def hear(order: tuple[int, bytes] | None) -> None:
        with contextlib.suppress(queue.Full):  # the SDK hangs: we end without it
            orders.put_nowait(order)

    threading.Thread(target=listen, args=(hear, wire.ORDER_MAX, folder), daemon=True).start()
    try:
        _serve(orders, outbox, folder)
    finally:
        end(outbox, folder)


def _serve(orders: queue.Queue[tuple[int, bytes] | None], outbox: Outbox, folder: str) -> None:
    order = orders.get()
    if order is None or order[0] != Order.JOIN:
        return
    try:
        with _nothing_fetched():
            importlib.import_module("agora.rtc.agora_service")
        visit = Visit(json.loads(order[1]), outbox, folder)
    except BaseException as exc:  # SystemExit too: the SDK ends the process that cannot load it
        outbox.put(Word.FAILED, wire.FAILED.pack(_fault_of(exc), 0))
        return
    while (order := orders.get()) is not None and order[0] != Order.LEAVE:
        if order[0] == Order.KEYFRAME:
            visit.ask_keyframe()
        elif order[0] == Order.RENEW:
            code = visit.renew(order[1].decode())
            outbox.put(Word.RENEWED, wire.RENEWED.pack(code))
    visit.leave()


def _uid(user_id: str) -> int:
    """Return a user id as a number; -1: it is none."""
    return int(user_id) if user_id.isascii() and user_id.isdigit() else -1


def _fault_of(exc: BaseException) -> Fault:
    if isinstance(exc, ModuleNotFoundError) and (exc.name or "").split(".")[0] == "agora":
        return Fault.MISSING
    if isinstance(exc, ImportError | OSError | SystemExit):
        return Fault.LIBRARY
    return Fault.TROUBLE


@contextlib.contextmanager
def _nothing_fetched() -> Iterator[None]:
    """
    Keep the SDK from downloading its library, and from removing the one that is there.

    It does both when it is imported and finds another version than it wants, by these two
    functions.
    """

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("the SDK wants to download its native library")

    kept = urllib.request.urlretrieve, os.system
    urllib.request.urlretrieve = os.system = refuse
    try:
        yield
    finally:
        urllib.request.urlretrieve, os.system = kept


if __name__ == "__main__":
    main()
