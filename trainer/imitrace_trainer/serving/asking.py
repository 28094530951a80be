"""Ask the clone in its own process: with a limit on time and on how many wait, and the expert in doubt."""

import asyncio
import logging
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from itertools import count

from imitrace.verdict import LOADING, Standing, Verdict
from imitrace_trainer.serving.clone_process import LATE
from imitrace_trainer.serving.config import ServeConfig
from imitrace_trainer.serving.questions import Posed, Question, question_line, read_answer

LOGGER = logging.getLogger("imitrace.serve")
OVERLOADED = "too many requests wait for the clone"
GONE = "the clone's process ended"
COMMAND = (sys.executable, "-m", "imitrace_trainer.serving.clone_process")
_LINE_BYTES = 64 * 1024 * 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_STOP_SECONDS = 5.0


class AskedClone:
    """A clone that can be asked; all of it in one event loop."""

    def __init__(self, config: ServeConfig, command: Sequence[str] = COMMAND) -> None:
        """Name what to ask.

        Args:
            config: names the clone, and says how long and how many may wait.
            command: what runs the clone's process; it is given the reference, ``--home`` and ``--socket``.
        """
        self._config = config
        self._command = command
        self.standing = Standing(reason="no clone is served" if config.clone is None else LOADING)
        self._known = asyncio.Event()
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Verdict]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._life: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """How many questions wait for an answer."""
        return len(self._waiting)

    def start(self) -> None:
        """Start the process, and again whenever it ends."""
        if self._config.clone is not None:
            self._life = asyncio.get_running_loop().create_task(self._live(self._config.clone))

    async def stop(self) -> None:
        """End the process."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])

    async def known(self, seconds: float) -> bool:
        """Wait until the clone is loaded, or can't be; return whether that was in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._known.wait()
        except TimeoutError:
            return False
        return True

    async def ask(self, question: Question) -> Verdict:
        """Return what the clone would do; the expert where it does not say so in time."""
        writer = self._writer
        if writer is None:
            return Verdict(None, False, self.standing.reason)
        if len(self._waiting) >= self._config.pending:
            return Verdict(None, False, OVERLOADED)
        number = next(self._numbers)
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        seconds = self._config.ask_seconds
        try:
            writer.write(question_line(Posed(number, time.monotonic() + seconds, question)))
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return Verdict(None, False, LATE)
        finally:
            del self._waiting[number]

    async def _live(self, reference: str) -> None:
        pause = _FIRST_PAUSE
        while True:
            if await self._serve(reference):
                pause = _FIRST_PAUSE
            LOGGER.warning("imitrace: %s; it is started again in %g s, and the expert acts", GONE, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _serve(self, reference: str) -> bool:
        """Start the process and take its answers until it ends; return whether it gave any."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = self._start(reference, theirs)
        try:
            reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES)
            return await self._take_answers(reader)
        finally:
            self.standing = Standing(reason=GONE)
            self._release()
            await asyncio.shield(asyncio.to_thread(_end, process))

    def _start(self, reference: str, theirs: socket.socket) -> "subprocess.Popen[bytes]":
        number = theirs.fileno()
        words = [*self._command, reference, "--home", str(self._config.home.absolute()), "--socket", str(number)]
        return subprocess.Popen(words, pass_fds=[number], stdin=subprocess.DEVNULL)

    async def _take_answers(self, reader: asyncio.StreamReader) -> bool:
        any_came = False
        while line := await reader.readline():
            any_came = True
            answer = read_answer(line)
            if isinstance(answer, Standing):
                self.standing = answer
                if answer.reason != LOADING:
                    self._known.set()
                continue
            future = self._waiting.get(answer[0])
            if future is not None and not future.done():
                future.set_result(answer[1])
        return any_came

    def _release(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_result(Verdict(None, False, GONE))


class AskedClones:
    """One clone in as many processes as the settings say; a trajectory's questions go to the same one."""

    def __init__(self, config: ServeConfig, command: Sequence[str] = COMMAND) -> None:
        self._clones = [AskedClone(config, command) for _ in range(config.processes)]

    @property
    def standing(self) -> Standing:
        """Where the clone may act."""
        return self._clones[0].standing

    @property
    def pending(self) -> int:
        """How many questions wait for an answer."""
        return sum(clone.pending for clone in self._clones)

    def start(self) -> None:
        """Start the processes."""
        for clone in self._clones:
            clone.start()

    async def stop(self) -> None:
        """End the processes."""
        await asyncio.gather(*(clone.stop() for clone in self._clones))

    async def known(self, seconds: float) -> bool:
        """Wait until the clone is loaded everywhere, or can't be; return whether that was in time."""
        return all(await asyncio.gather(*(clone.known(seconds) for clone in self._clones)))

    async def ask(self, question: Question) -> Verdict:
        """Return what the clone would do; the expert where it does not say so in time."""
        place = zlib.crc32((question.trajectory or "").encode("utf-8", "surrogatepass")) % len(self._clones)
        return await self._clones[place].ask(question)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process, which has nothing to save."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
