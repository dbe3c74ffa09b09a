"""Cases: what proves one server to another, or why it is refused, in both directions.

An account of each side writes to the other, and the message comes, or comes back. `matrix.py` and
`evidence.py` say what must come of it.
"""

import asyncio
import re
from dataclasses import dataclass

from contacts import word
from federation.part import Part
from federation.stanzad import Stanzad

# A case has failed when it says nothing, and none of the others has ended for so long: with all at
# once on a busy machine a case may take longer than by itself.
QUIET_SECONDS = 5
REFUSED = "refused: "


@dataclass
class Case:
    """A host of the peer and a domain of one of our servers. What has proven the host when it
    sends, and when it is sent to, in the words of `stanzad s2s list`; or why it is refused."""

    host: str
    ours: Stanzad
    domain: str
    sends: str
    is_sent_to: str
    is_encrypted: bool = True


class Cases(Part):
    """The persons are juliets; a subclass has their accounts made."""

    def __init__(self, suite, name):
        super().__init__(suite, name)
        self._progress = 0

    async def check_cases(self, cases, people):
        """Tries all at once; `people` are logged in, by their domains."""
        work = []
        for case in cases:
            there, here = people[case.host], people[case.domain]
            work += [self._sends(case, there, here), self._is_sent_to(case, here, there)]
        await asyncio.gather(*work)
        # Each of them is a process that reads the configuration and shakes hands.
        turns = asyncio.Semaphore(4)
        await asyncio.gather(*(self._explained(case, turns) for case in cases))

    async def comes_or_comes_back(self, sender, receiver):
        """Sends a message; None when it is there, or what is told when it comes back."""
        body = word()
        await sender.says(receiver.jid, body)
        came = asyncio.ensure_future(receiver.sees_message(body, sender.full))
        came_back = asyncio.ensure_future(sender.sees_error(receiver.jid))
        try:
            await self._first(came, came_back)
        finally:
            for each in (came, came_back):
                each.cancel()
        if came_back.done() and not came_back.cancelled():
            error = came_back.result()
            return f"{error['condition']} {error['text'] or ''}"
        return None

    async def _sends(self, case, sender, receiver):
        title = f"{case.host} to {case.domain}"
        work = self._case(case.sends, case, "accepted", sender, receiver)
        await self.report.check(title, case.sends, work, 60)

    async def _is_sent_to(self, case, sender, receiver):
        title = f"{case.domain} to {case.host}"
        work = self._case(case.is_sent_to, case, "dialled", sender, receiver)
        await self.report.check(title, case.is_sent_to, work, 60)

    async def _case(self, expected, case, direction, sender, receiver):
        told = await self.comes_or_comes_back(sender, receiver)
        if told is not None:
            assert expected.startswith(REFUSED), f"it came back: {told}"
            await self._refused(expected.removeprefix(REFUSED), case, direction, told)
            return told
        assert not expected.startswith(REFUSED), "the message came"
        return await self._proven(expected, case, direction)

    async def _first(self, *outcomes):
        """Waits for one of them, as long as any case makes progress."""
        while True:
            before = self._progress
            done, _ = await asyncio.wait(
                outcomes, timeout=QUIET_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                self._progress += 1
                return
            assert self._progress > before, f"nothing came in {QUIET_SECONDS} s"

    async def _explained(self, case, turns):
        """A dry run comes to the same."""

        async def explain():
            async with turns:
                told = await case.ours.explain(case.domain, case.host)
            (verdict,) = [
                line for line in told.splitlines() if line.startswith(f"{case.domain} ")
            ]
            if case.is_sent_to.startswith(REFUSED):
                assert f"does not talk with {case.host}: " in verdict, told
                assert case.is_sent_to.removeprefix(REFUSED) in verdict, told
            else:
                assert f"talks with {case.host}: " in verdict, told
            return verdict

        await self.report.check(f"{case.domain} to {case.host}", "explained", explain(), 60)

    async def _refused(self, words, case, direction, told):
        """The log says why, of a stream of this direction; a sender of ours is told the same."""
        if direction == "dialled":
            assert words in told, f"the sender is not told {words!r}, but {told}"
        deadline = asyncio.get_running_loop().time() + QUIET_SECONDS
        # The log has a thread of its own, which may be behind.
        while not self._is_logged(words, case, direction):
            is_late = asyncio.get_running_loop().time() > deadline
            assert not is_late, f"no refusal with {words!r} of what was {direction} is in the log"
            await asyncio.sleep(0.05)

    def _is_logged(self, words, case, direction):
        log = case.ours.log_lines
        for line in log("server refused", f"peer={case.host} ", case.domain, words):
            (stream,) = re.findall(r" stream=(\d+) ", line)
            is_dialled = bool(log(" dialling ", f" stream={stream} "))
            if is_dialled == (direction == "dialled"):
                return True
        return False

    async def _proven(self, expected, case, direction):
        links = await case.ours.links(case.domain, case.host)
        means = [each["peer_proven_by"] for each in links[direction]]
        assert means == [expected], f"proven by {means}, {links}"
        encrypted = [each["tls_version"] is not None for each in links[direction]]
        assert encrypted == [case.is_encrypted], links
        return means[0]
