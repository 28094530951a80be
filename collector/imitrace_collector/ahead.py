"""Remember what is derived from more than was asked for: in a backlog, each trajectory once and not once a part."""

from collections.abc import Mapping


class Ahead:
    """Names of trajectories, or traces, that were derived from later chunks than the last that is reached.

    Deriving reads all that is stored of a name. Where its parts lie far apart in a backlog, the later ones change
    nothing when they are reached.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._last: dict[str, int] = {}

    def changed(self, touched: Mapping[str, int]) -> list[str]:
        """Return in order which of these names lack something.

        Args:
            touched: by name the last chunk that brings something of it, of those that are to be derived.
        """
        return sorted(name for name, chunk in touched.items() if chunk > self._last.get(name, 0))

    def advance(self, derived: Mapping[str, int], reached: int) -> None:
        """Hear what has been committed.

        Args:
            derived: by name the last of the chunks that it was derived from.
            reached: up to which chunk everything is derived; names of no later one are forgotten.
        """
        self._last = {name: chunk for name, chunk in {**self._last, **derived}.items() if chunk > reached}
