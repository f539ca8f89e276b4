"""
Latencies in constant memory: one HdrHistogram of microseconds, from 1 us to an hour, to three significant digits.

Every histogram of the laboratory has the same range and precision. So any two add up bucket by bucket, exactly, whoever
recorded them; and a file can say nothing about the memory that reading it takes: the header of a histogram is compared
with ours before the library allocates what the header asks for.

The encoded form is HdrHistogram's own (V2, compressed, base64), which the tools of every language read.
"""

import base64
import binascii
import zlib
from collections.abc import Iterable
from typing import Any, Self

from hdrh.codec import HdrCookieException, HdrLengthException, PayloadHeader
from hdrh.histogram import HdrHistogram

LOWEST_US = 1
HIGHEST_US = 3_600_000_000
SIGNIFICANT_DIGITS = 3

MOST_ENCODED = 400_000  # characters; a histogram whose every bucket is in use has fewer
_MOST_PAYLOAD = 256_000  # bytes; every bucket at its longest: 23,552 buckets, 9 bytes each, and the header
_PREFIX_BYTES = 8  # a cookie and the length of what follows, before the compressed part


class Latencies:
    """A growing set of latencies; equal to another if every bucket is."""

    __slots__ = ("_histogram",)

    def __init__(self) -> None:
        self._histogram: Any = HdrHistogram(LOWEST_US, HIGHEST_US, SIGNIFICANT_DIGITS)

    def record(self, seconds: float, count: int = 1) -> None:
        """Count a latency. What is shorter than 1 us or longer than an hour counts as that."""
        self._histogram.record_value(min(max(round(seconds * 1e6), LOWEST_US), HIGHEST_US), count)

    def add(self, other: "Latencies") -> None:
        """Take in all that another one holds, bucket by bucket: nothing is rounded a second time."""
        self._histogram.add(other._histogram)

    @property
    def count(self) -> int:
        """How many were recorded."""
        return int(self._histogram.total_count)

    def percentile(self, percent: float) -> float | None:
        """The latency in seconds that `percent` (0 to 100) of them do not exceed; None where nothing was recorded."""
        if not self.count:
            return None
        return min(int(self._histogram.get_value_at_percentile(percent)), HIGHEST_US) / 1e6

    def percentiles(self, percents: Iterable[float]) -> dict[float, float]:
        """The same for several of them, in one pass; empty where nothing was recorded."""
        if not self.count:
            return {}
        found = self._histogram.get_percentile_to_value_dict(list(percents))
        return {percent: min(int(value), HIGHEST_US) / 1e6 for percent, value in found.items()}

    def buckets(self) -> list[tuple[float, int]]:
        """Upper end in seconds and count of each bucket in use, ascending: the distribution as it is known."""
        counts = self._histogram.counts
        highest = self._histogram.get_highest_equivalent_value
        value = self._histogram.get_value_from_index
        used = [(int(highest(value(index))), int(count)) for index, count in enumerate(counts) if count]
        return [(min(upper, HIGHEST_US) / 1e6, count) for upper, count in used]

    def encode(self) -> str:
        """As text for a file."""
        return str(self._histogram.encode(), "ascii")

    @classmethod
    def decode(cls, text: str) -> Self:
        """
        Read what `encode` wrote.

        Raises: ValueError, with a clause for a person
        """
        _check(text)
        new = cls.__new__(cls)
        try:
            new._histogram = HdrHistogram.decode(text)
        except (HdrCookieException, HdrLengthException, IndexError, OverflowError, ValueError) as error:
            raise ValueError(f"its buckets cannot be read ({error})") from error
        return new

    @classmethod
    def sum(cls, parts: Iterable["Latencies"]) -> Self:
        """All of them in one."""
        total = cls()
        for part in parts:
            total.add(part)
        return total

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Latencies):
            return NotImplemented
        return bytes(self._histogram.counts) == bytes(other._histogram.counts)

    __hash__ = None  # type: ignore[assignment]  # it grows


def _check(text: str) -> None:
    """Refuse what is no histogram of ours before the library allocates anything for it."""
    if len(text) > MOST_ENCODED:
        raise ValueError(f"it is longer than {MOST_ENCODED:,} characters")
    try:
        unpacker = zlib.decompressobj()
        payload = unpacker.decompress(base64.b64decode(text, validate=True)[_PREFIX_BYTES:], _MOST_PAYLOAD)
        header = PayloadHeader.from_buffer_copy(payload)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ValueError("it is no encoded HdrHistogram") from error
    if not unpacker.eof:
        raise ValueError(f"it unpacks to more than {_MOST_PAYLOAD:,} bytes, or is cut off")
    ours = (LOWEST_US, HIGHEST_US, SIGNIFICANT_DIGITS)
    theirs = (header.lowest_trackable_value, header.highest_trackable_value, header.significant_figures)
    if theirs != ours:
        raise ValueError("its range is not 1 us to 1 h in microseconds with three significant digits")
