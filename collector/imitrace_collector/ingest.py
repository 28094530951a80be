"""Write batches of raw items durably, from one thread."""

from collections.abc import Sequence

from imitrace_collector.derive import derive_all
from imitrace_collector.raw_tables import Written
from imitrace_collector.rows import Batch
from imitrace_collector.store import Session, Store


class Writer:
    """Number the chunks of one store and write them; there is one writer for a store."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._chunk: int | None = None
        """The last chunk's number; unknown after a failure, for what was reported failed may be in the file."""

    def write(self, batches: Sequence[Batch]) -> Written:
        """Write batches in one transaction; when this returns they are durable.

        Raises:
            StoreError: they could not be written; then nothing of them was.
        """
        last, self._chunk = self._chunk, None
        with self._session.transaction():
            written = self._session.raw.write(batches, self._session.raw.last_chunk() if last is None else last)
        if written.spans or written.logs:
            self._session.raw.committed(batches)
        self._chunk = written.chunk
        return written


def ingest(store: Store, batches: Sequence[Batch]) -> Written:
    """Write batches into a store that no collector holds, and derive what follows from them."""
    with store.session() as session:
        written = Writer(session).write(batches)
        derive_all(session)
    return written
