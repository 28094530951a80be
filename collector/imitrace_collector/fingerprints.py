"""Remember what is stored by hashes of 64 bits, or 96, in a fraction of what an index takes."""

from array import array

_TABLES = 256
"""Each grows by itself, so that no insertion waits for more than a small part of all."""
_LEAST = 16
_BITS = 2**64 - 1


class Fingerprints:
    """Say of a hash whether it was added before; 12 to 24 bytes each, for one thread at a time.

    Whoever believes that without a look at what is stored has ``wide`` ones, of 18 to 36 bytes each: among ten million
    things two have the same 64 bits in one of 400,000 stores, and the same 96 in none that there will be.
    """

    def __init__(self, *, wide: bool = False) -> None:
        """Start with none; ``wide`` ones have 96 bits."""
        self._tables = [array("Q", bytes(8 * _LEAST)) for _ in range(_TABLES)]
        self._further = [array("I", bytes(4 * _LEAST)) if wide else None for _ in range(_TABLES)]
        self._counts = [0] * _TABLES

    def add(self, fingerprint: int, further: int = 0) -> bool:
        """Add a hash, and return whether it was there; two different things may have the same, though hardly ever.

        Args:
            fingerprint: 64 bits of it.
            further: another 32, from 0 on, which count in ``wide`` ones.
        """
        found = (fingerprint & _BITS) or 1  # an empty place is 0
        number = found % _TABLES
        table, beside = self._tables[number], self._further[number]
        last = len(table) - 1
        place = (found // _TABLES) & last
        while table[place]:
            if table[place] == found and (beside is None or beside[place] == further):
                return True
            place = (place + 1) & last
        table[place] = found
        if beside is not None:
            beside[place] = further
        self._counts[number] += 1
        if 3 * self._counts[number] > 2 * len(table):
            self._tables[number], self._further[number] = _grown(table, beside)
        return False

    @property
    def size(self) -> int:
        """Return how many bytes they take."""
        parts = [*self._tables, *(part for part in self._further if part is not None)]
        return sum(part.itemsize * len(part) for part in parts)


def _grown(table: "array[int]", beside: "array[int] | None") -> tuple["array[int]", "array[int] | None"]:
    larger = array("Q", bytes(16 * len(table)))
    wider = None if beside is None else array("I", bytes(8 * len(table)))
    last = len(larger) - 1
    for before, found in enumerate(table):
        if found:
            place = (found // _TABLES) & last
            while larger[place]:
                place = (place + 1) & last
            larger[place] = found
            if beside is not None and wider is not None:
                wider[place] = beside[before]
    return larger, wider
