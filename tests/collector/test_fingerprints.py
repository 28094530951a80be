from hypothesis import given
from hypothesis import strategies as st

from imitrace_collector.fingerprints import Fingerprints

ALIKE = st.integers(0, 50).map(lambda number: number << 16)  # all in one table
HASHES = st.integers(-(2**63), 2**63 - 1) | ALIKE | st.sampled_from([-(2**63), -1, 2, 2**63 - 1])


@given(st.lists(HASHES, max_size=200))
def test_a_hash_is_there_once_it_was_added(hashes: list[int]) -> None:
    found, added = Fingerprints(), set[int]()
    for one in hashes:
        assert found.add(one) == (one in added)
        added.add(one)


def test_many_hashes_are_kept_apart_in_little_memory() -> None:
    found, count = Fingerprints(), 100_000
    assert not any(found.add(hash(("trace", number))) for number in range(count))
    assert all(found.add(hash(("trace", number))) for number in range(count))
    assert sum(table.itemsize * len(table) for table in found._tables) <= 24 * count
