"""Remember what is stored by 64-bit hashes, in a fraction of what an index takes."""

from array import array

_TABLES = 256
"""Each grows by itself, so that no insertion waits for more than a small part of all."""
_LEAST = 16
_BITS = 2**64 - 1


class Fingerprints:
    """Say of a hash whether it was added before; 12 to 24 bytes each, for one thread at a time."""

    def __init__(self) -> None:
        self._tables = [array("Q", bytes(8 * _LEAST)) for _ in range(_TABLES)]
        self._counts = [0] * _TABLES

    def add(self, fingerprint: int) -> bool:
        """Add a hash, and return whether it was there; two different things may have the same, though hardly ever."""
        found = (fingerprint & _BITS) or 1  # an empty place is 0
        number = found % _TABLES
        if not _put(self._tables[number], found):
            return True
        self._counts[number] += 1
        if 3 * self._counts[number] > 2 * len(self._tables[number]):
            self._tables[number] = _grown(self._tables[number])
        return False


def _put(table: "array[int]", found: int) -> bool:
    last = len(table) - 1
    place = (found // _TABLES) & last
    while table[place]:
        if table[place] == found:
            return False
        place = (place + 1) & last
    table[place] = found
    return True


def _grown(table: "array[int]") -> "array[int]":
    larger = array("Q", bytes(16 * len(table)))
    for found in table:
        if found:
            _put(larger, found)
    return larger
