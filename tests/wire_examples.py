"""One valid example of every control message, with every optional member in it."""

from __future__ import annotations

from typing import Any

KEY = "000102030405060708090a0b0c0d0e0f"
TOKEN = KEY * 2
USER = {"id": 7, "name": "Ana", "role": "member", "mic": True, "camera": False, "hand": 0.0, "sharing": False}
HOST = {**USER, "id": 1, "role": "host", "proof": {"epoch": 1, "nonce": TOKEN, "signature": TOKEN * 2}}
CHAT = {"n": 3, "id": 7, "from": "Ana", "text": "Hi, all 👋", "at": 1_700_000_000.5}
OFFER = {
    "file": "00ff",
    "name": "plan.pdf",
    "size": 123,
    "sha256": TOKEN,
    "id": 7,
    "from": "Ana",
    "private": True,
}

REFUSAL = {
    "code": "not_allowed",
    "why": "removed",
    "name": "Ben",
    "key": "text",
    "fault": "bad_field",
    "size": 1 << 31,
    "count": 200,
    "versions": [1],
}

CLIENT: dict[str, dict[str, Any]] = {
    "hello": {"v": 1, "name": "Ana", "pin": True, "resume": TOKEN, "host": TOKEN},
    "pin": {"message": "41" + TOKEN},
    "pin_proof": {"mac": TOKEN},
    "proof": {"signature": TOKEN * 2},
    "user_list": {},
    "chat": {"text": "Hello", "ref": 4},
    "private_chat": {"to_name": "Ben", "text": "psst", "ref": 4},
    "reaction": {"emoji": "🎉", "ref": 4},
    "hand": {"up": True, "ref": 4},
    "mic": {"on": True},
    "video_start": {},
    "video_stop": {},
    "watch": {"streams": {"7": {"layer": 2, "fps": 15}}},
    "report": {"loss": 0.5, "delay_ms": 12.5, "kbps": 840.5},
    "ticket": {"plane": "files", "direction": "download", "file": "00ff", "ref": 1},
    "file_offer": {"name": "plan.pdf", "size": 123, "sha256": TOKEN, "to_name": "Ben", "ref": 2},
    "decline": {"file": "00ff"},
    "cancel": {"file": "00ff", "ref": 4},
    "mute": {"who": "all", "ref": 4},
    "remove": {"who": 7, "ref": 4},
    "unban": {"who": "Ben", "ref": 4},
    "take_over": {"ref": 4},
    "allow_share": {"who": 7, "ref": 4},
    "admit": {"ask": 1, "on": True, "ref": 4},
    "end": {"ref": 4},
    "leave": {},
    "resumed": {},
    "ping": {"t": 12.5},
}

SERVER: dict[str, dict[str, Any]] = {
    "welcome": {
        "id": 7,
        "name": "Ana",
        "role": "member",
        "meeting": KEY,
        "title": "Algebra",
        "host": "Ms Lee",
        "video_up": KEY,
        "video_down": KEY,
        "audio_up": KEY,
        "audio_down": KEY,
        "resume": TOKEN,
        "users": [USER, HOST],
        "chat": [CHAT],
        "private": [{**CHAT, "to_name": "Ben"}],
        "files": [OFFER],
        "presenter": 0,
        "largest_file": 1 << 31,
        "host_key": TOKEN,
        "pin": "123456",
    },
    "prove": {"meeting": KEY, "epoch": 1, "id": 7, "nonce": TOKEN},
    "waiting": {},
    "pin": {"message": "42" + TOKEN},
    "pin_proof": {"mac": TOKEN},
    "denied": REFUSAL,
    "error": {**REFUSAL, "ref": 1},
    "user_list": {"users": [USER]},
    "join": {"user": USER},
    "leave": {"id": 7, "name": "Ana", "reason": "left", "ref": 3},
    "state": {"user": USER, "ref": 4},
    "chat": {**CHAT, "ref": 4},
    "private_chat": {**CHAT, "to_name": "Ben", "ref": 4},
    "reaction": {"n": 4, "id": 7, "from": "Ana", "emoji": "🎉", "ref": 4},
    "video_start": {"id": 7, "name": "Ana"},
    "video_stop": {"id": 7, "name": "Ana"},
    "encode": {"n": 1, "layers": {"0": 15, "2": 30}, "coarse": [2]},
    "muted": {"by": "Ms Lee"},
    "ticket": {"ref": 1, "ticket": KEY, "file": "00ff"},
    "screen_start": {"id": 7, "name": "Ana"},
    "screen_stop": {"id": 7, "name": "Ana", "ref": 3},
    "share_allowed": {},
    "file_offer": OFFER,
    "file_ready": {"ref": 2, "file": "00ff"},
    "file_gone": {"file": "00ff", **REFUSAL, "ref": 3},
    "file_saved": {"file": "00ff", "people": 3},
    "audio_keys": {"up": KEY, "down": KEY},
    "asks": {"ask": 1, "name": "Ben", "address": "10.0.0.7", "why": "removed"},
    "banned": {"names": ["Ben"], "ref": 4},
    "host_away": {"seconds": 900},
    "ended": REFUSAL,
    "removed": REFUSAL,
    "pong": {"t": 12.5},
}
