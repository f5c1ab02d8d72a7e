"""Numbers of the protocol that have a meaning: ends, retry classes, notices, refusals, durability."""

from __future__ import annotations

# Whether to come back after an end (8.2).
NEVER, NOW, LATER = 0, 1, 2

# How a connection ends (8.3). The client only has to know those that change what it does.
DONE = 0
BACK_SOON = 1
RAW_LISTENER = 49
BAD_TOKEN = 50
REPLACED = 51
DRAIN = 70

GOODBYES = {DONE: "the client is done for good", BACK_SOON: "the client means to come back"}

# Ends that this side finds by itself: the code and whether to come back.
CODES: dict[str, tuple[int, int]] = {
    "malformed frame": (32, NEVER),
    "unknown frame": (33, NEVER),
    "frame too large": (34, NEVER),
    "frame out of place": (35, NEVER),
    "sequence gap": (37, NEVER),
    "window exceeded": (38, NEVER),
    "text is not utf-8": (39, NEVER),
    "truncated frame": (40, NOW),
    "peer closed": (90, NOW),
    "peer vanished": (92, NOW),
    "socket error": (93, NOW),
}

# Why a message was refused (7.3).
TOO_LARGE = 1
REFUSED_BECAUSE = {
    TOO_LARGE: "too large for the destination",
    2: "over quota",
    3: "not wanted",
    4: "the store is full",
    5: "the share of this address is used up",
    6: "not authorized",
}

# What committed means (5.2).
DURABILITY = {0: "in memory only", 1: "with the operating system", 2: "synced to disk"}

# Notices (8.1).
PLANNED_END, DRAINING, RECEIPTS_STOPPED, RECEIPTS_GO_ON, READING_RESTS = 1, 2, 3, 4, 5


def durability_text(durability: int) -> str:
    """What committed means, in words."""
    return DURABILITY.get(durability, f"durability {durability}")
