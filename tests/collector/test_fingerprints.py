import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_collector.fingerprints import Fingerprints

ALIKE = st.integers(0, 50).map(lambda number: number << 16)  # all in one table
ANY = st.integers(-(2**63), 2**63 - 1) | ALIKE | st.sampled_from([-(2**63), -1, 2, 2**63 - 1])
HASHES = ANY.filter(bool)  # 0 counts as 1


@given(st.lists(HASHES, max_size=200))
def test_a_hash_is_there_once_it_was_added(hashes: list[int]) -> None:
    found, added = Fingerprints(), set[int]()
    for one in hashes:
        assert found.add(one) == (one in added)
        added.add(one)


@given(st.lists(st.tuples(HASHES, st.integers(0, 3) | st.just(2**32 - 1)), max_size=200))
def test_a_wide_one_is_there_once_all_its_bits_were_added(hashes: list[tuple[int, int]]) -> None:
    found, added = Fingerprints(wide=True), set[tuple[int, int]]()
    for one in hashes:
        assert found.add(*one) == (one in added)
        added.add(one)


@pytest.mark.parametrize(("wide", "most"), [(False, 24), (True, 36)])
def test_many_hashes_are_kept_apart_in_little_memory(wide: bool, most: int) -> None:
    found, count = Fingerprints(wide=wide), 100_000
    assert not any(found.add(hash(("trace", number)), number) for number in range(count))
    assert all(found.add(hash(("trace", number)), number) for number in range(count))
    assert found.size <= most * count
