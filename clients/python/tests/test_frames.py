"""Frames and the reader, against the vectors of the protocol."""

from __future__ import annotations

import unittest
from typing import Any

from pulsegate import codes, frames
from pulsegate.frames import (
    Beat,
    FrameReader,
    Message,
    ProtocolError,
    encode,
)

from .gateway import vector, vectors


def fields(frame: Any) -> dict[str, str]:
    """A frame as the vectors have it, without its bytes."""
    written = {"frame": type(frame).__name__.upper()}
    for name, value in vars(frame).items():
        if isinstance(value, str):
            value = f'"{value}"'
        elif isinstance(value, bytes):
            value = value.hex() or "-"
        elif isinstance(value, tuple):
            value = " ".join(f"{number}:{code}" for number, code in value) or "-"
        written[name] = str(value)
    return written


class Codec(unittest.TestCase):
    def read(self, data: bytes, **options: Any) -> Any:
        reader = FrameReader(1000, **options)
        reader.feed(data)
        return reader.next()

    def test_vectors_say_what_their_fields_are(self) -> None:
        understood = {name: lines for name, lines in vectors().items() if "frame" in lines}
        self.assertGreaterEqual(len(understood), 25)
        for name, lines in understood.items():
            data = bytes.fromhex(lines.pop("bytes"))
            with self.subTest(name):
                if lines["frame"] == "preface":
                    self.assertEqual(frames.PREFACE, data)
                elif lines["frame"] == "skipped":
                    self.assertIsNone(self.read(data, opened=True))
                else:
                    frame = self.read(data, opened=True)
                    self.assertEqual(fields(frame), lines)
                    self.assertEqual(encode(frame), data)

    def test_vectors_byte_by_byte_in_one_stream(self) -> None:
        stream = b"".join(
            vector(name)
            for name, lines in vectors().items()
            if lines.get("frame", "preface") not in ("preface", "skipped")
        )
        reader, again = FrameReader(1000, opened=True), b""
        for byte in stream:
            reader.feed(bytes([byte]))
            frame = reader.next()
            again += encode(frame) if frame else b""
        self.assertEqual(again, stream)
        self.assertFalse(reader.inside)

    def test_vectors_that_must_be_refused(self) -> None:
        """Those of which a frame alone shows what is wrong; BrokenGateway has the others."""
        for name, lines in vectors().items():
            code = int(lines["code"]) if lines.get("state", "preface") != "preface" else 0
            if code in (32, 33, 34, 39):
                with self.subTest(name), self.assertRaises(ProtocolError) as caught:
                    self.read(vector(name), opened=lines["state"] == "attached")
                self.assertEqual(codes.CODES[caught.exception.reason][0], code, name)

    def test_what_is_wrong_is_named(self) -> None:
        for reason, data in [
            ("unknown frame", "0a000000"),
            ("unknown frame", "00000000"),
            ("unknown frame", "7fffffff"),
            ("frame too large", "03000401"),
            ("frame too large", "80000401"),
            ("frame too large", "04000401"),
            ("frame too large", "09ffffff"),
            ("malformed frame", "03000002"),
            ("malformed frame", "03000000"),
            ("malformed frame", "04000007"),
            ("malformed frame", "0300000103"),
            ("malformed frame", "09000211"),
            ("malformed frame", "09000010" + "0000" + "03" + "00" * 13),
            ("malformed frame", "09000010" + "0000" + "0001" + "00" * 12),
            ("malformed frame", "0600000b" + "00" * 10 + "ff"),
            ("malformed frame", "0400000800" + "00" * 7),
            ("text is not utf-8", "0600000b" + "00" * 7 + "01" + "0001" + "ff"),
        ]:
            with self.subTest(data), self.assertRaises(ProtocolError) as caught:
                self.read(bytes.fromhex(data))
            self.assertEqual(caught.exception.reason, reason)

    def test_unknown_high_types_are_skipped(self) -> None:
        self.assertEqual(self.read(bytes.fromhex("ff000003aabbcc0300000102")), Beat(2))

    def test_the_limit_rises_with_welcome(self) -> None:
        data = encode(Message(1, bytes(1000)))
        self.assertEqual(self.read(data, opened=True), Message(1, bytes(1000)))
        with self.assertRaises(ProtocolError):
            self.read(encode(Message(1, bytes(1020))))
        with self.assertRaises(ProtocolError):
            self.read(encode(Message(1, bytes(1001))), opened=True)

    def test_a_large_message_proves_life_as_it_comes(self) -> None:
        reader = FrameReader(5000, opened=True)
        data = encode(Message(1, bytes(4096 - 8)))
        seen = []
        for start in range(0, len(data), 1000):
            reader.feed(data[start : start + 1000])
            reader.next()
            seen.append(reader.proofs)
        self.assertEqual(seen, [0, 1, 2, 3, 4])
