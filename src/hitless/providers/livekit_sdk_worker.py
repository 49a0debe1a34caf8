"""
The process that holds the `livekit` package: it joins one room, to view or to publish.

Run as `python -m hitless.providers.livekit_sdk_worker FOLDER` by `livekit_sdk.py`; it obeys its
standard input (`sdk_wire.py`) and ends when that ends, so it never outlives the leg.

It is a process of its own because the package's native library (Rust, with libwebrtc) leaves
threads behind, ends the process by a signal when it panics, and cannot be stopped when it hangs;
and because pictures are encoded here, beside the leg's own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from typing import Any, Final

from . import sdk_wire as wire
from .livekit_sdk_media import Publishing, Viewing
from .livekit_sdk_room import Over, Stay
from .sdk_wire import Fault, Order, Word
from .sdk_worker import Outbox, end, listen, private_output


_ORDERS_MAX: Final = 256
"""Frames that wait to be published; then all of them are dropped."""


def main() -> None:
    """Serve one leg, and end."""
    folder = sys.argv[1]
    outbox = Outbox(private_output())
    try:
        asyncio.run(_serve(outbox, folder))
    except Over:
        pass
    except BaseException as exc:
        outbox.put(Word.FAILED, wire.FAILED.pack(_fault_of(exc), 0))
    finally:
        end(outbox, folder)


async def _serve(outbox: Outbox, folder: str) -> None:
    loop = asyncio.get_running_loop()
    orders: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()

    def take(order: tuple[int, bytes] | None) -> None:
        is_media = order is not None and order[0] in (Order.VIDEO, Order.AUDIO)
        if is_media and orders.qsize() >= _ORDERS_MAX:
            while not orders.empty():
                orders.get_nowait()
            order = (Order.DROPPED, b"")
        orders.put_nowait(order)

    def hear(order: tuple[int, bytes] | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: we end
            loop.call_soon_threadsafe(take, order)

    threading.Thread(target=listen, args=(hear, wire.BODY_MAX, folder), daemon=True).start()
    order = await orders.get()
    if order is None or order[0] != Order.JOIN:
        return
    said = json.loads(order[1])
    stay = Publishing(outbox, said) if said["publish"] else Viewing(outbox, said)
    work = asyncio.create_task(_stay_in(stay, said))
    try:
        while True:
            wanted = asyncio.create_task(orders.get())
            await asyncio.wait([wanted, work], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                wanted.cancel()
                work.result()
                return
            order = wanted.result()
            if order is None or order[0] == Order.LEAVE:
                return
            await stay.serve(*order)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await stay.leave()


async def _stay_in(stay: Stay, said: dict[str, Any]) -> None:
    await stay.enter(said)
    await stay.watch_signs()


def _fault_of(exc: BaseException) -> Fault:
    if isinstance(exc, ModuleNotFoundError) and (exc.name or "").split(".")[0] == "livekit":
        return Fault.MISSING
    if isinstance(exc, ImportError | OSError):
        return Fault.LIBRARY
    return Fault.TROUBLE


if __name__ == "__main__":
    main()
