"""Lines of JSON with a checksum: one object in each line, its last entry ``crc`` the CRC-32 of the line up to there."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

from automl_nas.run.record.atomic_files import decode_json


def with_checksums(bodies: Sequence[bytes]) -> bytes:
    """Return whole lines.

    Args:
        bodies: JSON objects without the closing brace, each with at least one entry.
    """
    crc = zlib.crc32
    return b"".join([b'%b,"crc":"%08x"}\n' % (body, crc(body)) for body in bodies])


def checked(line: bytes) -> dict[str, Any] | None:
    """Return the object of a line, with its checksum; None if the line is damaged."""
    body, mark, tail = line.rpartition(b',"crc":"')
    if not mark or tail != f'{zlib.crc32(body):08x}"}}\n'.encode():
        return None
    try:
        record = decode_json(line.decode())
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def body(record: dict[str, Any]) -> bytes:
    """Return a JSON object without its closing brace."""
    return json.dumps(record, separators=(",", ":")).encode()[:-1]
