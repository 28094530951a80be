import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.delivery.spool import Spool, SpoolConfig, Stored, spool_folder
from imitrace.faults import Faults

WRITER = """
import sys
from imitrace.faults import Faults
from imitrace.delivery.spool import Spool, SpoolConfig
from pathlib import Path
spool = Spool(SpoolConfig(folder=Path(sys.argv[1]), segment_bytes=20_000), Faults())
for number in range(10**6):
    assert spool.append("traces", 1, b"%d " % number * 500)
    print(number, flush=True)
"""
FULL_DISK = """
import resource, signal, sys
from imitrace.faults import Faults
from imitrace.delivery.spool import Spool, SpoolConfig
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
spool = Spool(SpoolConfig(folder=Path(sys.argv[1])), Faults())
assert spool.append("traces", 1, b"a" * 3000)
try:
    spool.append("traces", 1, b"b" * 3000)
except OSError:
    pass
else:
    sys.exit("a file grew beyond its limit")
assert spool.append("traces", 1, b"c" * 3000)
"""


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "desk"


def opened(folder: Path, faults: Faults, **bounds: int) -> Spool:
    return Spool(SpoolConfig(folder=folder, **bounds), faults)


def drained(spool: Spool) -> Iterator[Stored]:
    while found := spool.oldest():
        segment, request = found
        segment.acknowledge(request)
        yield request


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def test_requests_come_back_in_order_and_leave_nothing_behind(folder: Path, faults: Faults) -> None:
    spool = opened(folder, faults, segment_bytes=100)
    assert spool.is_empty()
    bodies = [bytes([number]) * 40 for number in range(9)]
    assert all(spool.append("logs" if number % 2 else "traces", number, body) for number, body in enumerate(bodies))
    assert len(segments(folder)) > 2
    back = list(drained(spool))
    assert [request.body for request in back] == bodies
    assert [(request.signal, request.records) for request in back[:2]] == [("traces", 0), ("logs", 1)]
    assert len(segments(folder)) == 1
    spool.close()
    assert (list(folder.iterdir()), spool.vanished, faults.counts()) == ([], {}, {})


def test_what_a_process_left_is_delivered_first_and_not_from_the_start(folder: Path, faults: Faults) -> None:
    first = opened(folder, faults)
    for body in (b"one", b"two", b"three"):
        first.append("traces", 1, body)
    next(drained(first))
    first.close()
    second = opened(folder, faults)
    second.append("traces", 1, b"four")
    assert [request.body for request in drained(second)] == [b"two", b"three", b"four"]
    second.close()
    assert segments(folder) == []


def test_nobody_reads_a_segment_that_is_in_use(folder: Path, faults: Faults) -> None:
    one, other = opened(folder, faults), opened(folder, faults)
    one.append("traces", 1, b"one")
    other.append("traces", 1, b"other")
    assert [request.body for request in drained(other)] == [b"other"]
    one.close()
    assert [request.body for request in drained(other)] == [b"one"]
    other.close()


def test_a_position_that_cannot_be_trusted_means_to_start_again(folder: Path, faults: Faults) -> None:
    first = opened(folder, faults)
    first.append("traces", 1, b"one")
    first.append("traces", 1, b"two")
    next(drained(first))
    first.close()
    (path,) = segments(folder)
    with path.open("r+b") as file:
        file.seek(16)
        file.write(b"\x40")
    second = opened(folder, faults)
    assert [request.body for request in drained(second)] == [b"one", b"two"]
    second.close()


def test_a_spool_that_is_full_says_so_and_takes_more_when_it_is_emptied(folder: Path, faults: Faults) -> None:
    spool = opened(folder, faults, max_bytes=1000, segment_bytes=300)
    kept = [spool.append("traces", 1, b"x" * 100) for _ in range(20)]
    assert kept == [True] * kept.count(True) + [False] * kept.count(False)
    assert 5 <= kept.count(True) <= 8
    assert sum(path.stat().st_size for path in segments(folder)) <= 1000
    assert len(list(drained(spool))) == kept.count(True)
    assert spool.append("traces", 1, b"x" * 100)
    spool.close()


@settings(max_examples=40, deadline=None)
@given(bodies=st.lists(st.binary(max_size=60), min_size=1, max_size=6), cut=st.integers(0, 10**6))
def test_a_segment_torn_anywhere_gives_what_was_whole(bodies: list[bytes], cut: int) -> None:
    with TemporaryDirectory() as name:
        folder, faults = Path(name), Faults()
        first = opened(folder, faults)
        ends = []
        for body in bodies:
            first.append("traces", 1, body)
            ends.append(segments(folder)[0].stat().st_size)
        first.close()
        (path,) = segments(folder)
        cut = 28 + cut % (ends[-1] - 27)
        os.truncate(path, cut)
        second = opened(folder, faults)
        assert [request.body for request in drained(second)] == bodies[: sum(end <= cut for end in ends)]
        second.close()
        assert faults.counts() == ({} if cut in (28, *ends) else {"spool_torn": 1})
        assert segments(folder) == []


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 10**6), value=st.integers(1, 255))
def test_a_changed_byte_never_comes_back_as_a_request(place: int, value: int) -> None:
    with TemporaryDirectory() as name:
        folder, faults = Path(name), Faults()
        first = opened(folder, faults)
        bodies = [b"a" * 30, b"b" * 30, b"c" * 30]
        for body in bodies:
            first.append("logs", 7, body)
        first.close()
        (path,) = segments(folder)
        data = bytearray(path.read_bytes())
        data[28 + place % (len(data) - 28)] ^= value
        path.write_bytes(data)
        second = opened(folder, faults)
        back = list(drained(second))
        assert {(request.signal, request.records) for request in back} <= {("logs", 7)}
        assert [request.body for request in back] == [body for body in bodies if body in {r.body for r in back}]
        assert faults.counts() == {"spool_torn": 1}
        second.close()


def test_what_our_own_disk_does_not_give_back_is_counted(folder: Path, faults: Faults) -> None:
    spool = opened(folder, faults, segment_bytes=100)
    spool.append("traces", 5, b"x" * 200)
    (path,) = segments(folder)
    os.truncate(path, 60)
    spool.append("traces", 1, b"next")
    assert [request.body for request in drained(spool)] == [b"next"]
    assert (spool.vanished["traces"], faults.counts()) == (5, {"spool_torn": 1})
    spool.close()


def test_files_that_are_not_ours_are_left_alone(folder: Path, faults: Faults) -> None:
    folder.mkdir(parents=True)
    (folder / "0-notes.spool").write_text("not a segment of anybody")
    spool = opened(folder, faults)
    spool.append("traces", 1, b"one")
    assert [request.body for request in drained(spool)] == [b"one"]
    spool.close()
    assert [path.name for path in folder.iterdir()] == ["0-notes.spool"]


def test_a_segment_that_was_never_finished_is_swept_away(folder: Path, faults: Faults) -> None:
    folder.mkdir(parents=True)
    for name, age in (("old.part", 0), ("new.part", time.time())):
        (folder / name).write_bytes(b"imitrace")
        os.utime(folder / name, (age, age))
    spool = opened(folder, faults)
    spool.append("traces", 1, b"one")
    assert [path.name for path in folder.glob("*.part")] == ["new.part"]
    spool.close()


def test_a_writer_killed_at_any_moment_leaves_all_that_it_had_been_promised(folder: Path, faults: Faults) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    promised = [int(writer.stdout.readline()) for _ in range(60)]
    writer.kill()
    promised += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
    writer.wait(10)
    writer.stdout.close()
    spool = opened(folder, faults)
    back = [int(request.body.split()[0]) for request in drained(spool)]
    assert back[: len(promised)] == promised == list(range(len(promised)))
    assert len(back) <= len(promised) + 1
    spool.close()


def test_a_full_disk_is_told_and_what_was_written_stays_whole(folder: Path, faults: Faults) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    subprocess.run([sys.executable, "-c", FULL_DISK, folder], check=True, timeout=60)
    spool = opened(folder, faults)
    assert [request.body[:1] for request in drained(spool)] == [b"a", b"c"]
    assert faults.counts() == {}
    spool.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, faults: Faults) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        opened(tmp_path / "file" / "desk", faults).append("traces", 1, b"one")


def test_refused_requests_are_set_aside_up_to_a_bound(folder: Path, faults: Faults) -> None:
    spool = opened(folder, faults, refused_bytes=10)
    spool.append("logs", 1, b"refused")
    (request,) = drained(spool)
    spool.set_aside(request)
    spool.set_aside(request)
    (aside,) = (folder / "refused").iterdir()
    assert (aside.read_bytes(), aside.name.endswith(".logs.otlp.pb")) == (b"refused", True)
    assert faults.counts() == {"refused_not_kept": 1}
    spool.close()


def test_only_the_user_may_read_what_waits(folder: Path, faults: Faults) -> None:
    spool = opened(folder, faults)
    spool.append("traces", 1, b"secret")
    assert {oct(path.stat().st_mode & 0o777) for path in (folder, *segments(folder))} == {"0o700", "0o600"}
    spool.close()


@pytest.mark.parametrize("agent", ["../../etc", "..", ".", "a/b", "Café desk", "refused"])
def test_an_agent_of_any_name_gets_a_folder_of_its_own(agent: str) -> None:
    folder = spool_folder(Path("/home"), agent)
    assert folder.parent == Path("/home/spool")
    assert folder.resolve().parent == Path("/home/spool")
