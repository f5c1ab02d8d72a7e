"""Makes what a stranger sent harmless for a terminal."""

from __future__ import annotations

import unicodedata

# Categories of characters that drive a terminal, or can't be seen.
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def readable(text: str | bytes) -> str:
    """The text with control and format characters escaped, and what is not UTF-8.

    Backslashes are escaped too, so that nothing looks like an escape that is none.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return "".join(_escaped(each) if _is_hidden(each) else each for each in text)


def _is_hidden(each: str) -> bool:
    return each == "\\" or unicodedata.category(each) in HIDDEN


def _escaped(each: str) -> str:
    if "\udc80" <= each <= "\udcff":  # a byte that is not UTF-8
        return f"\\x{ord(each) - 0xDC00:02x}"
    return each.encode("unicode_escape").decode("ascii")
