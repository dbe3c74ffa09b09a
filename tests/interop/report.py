"""What was checked with which client, and how it ended."""

import asyncio
import time
import traceback

FAILED = object()


class Report:
    """Collects results; a check that raises anything has failed, and the suite goes on."""

    def __init__(self):
        self.rows = []

    async def check(self, client, name, work, seconds=40):
        """Awaits `work` (a coroutine) for at most `seconds`; yields its value, or FAILED.

        A string that it yields is told in the table.
        """
        started = time.monotonic()
        try:
            value = await asyncio.wait_for(work, seconds)
        except TimeoutError:
            self._record(client, name, started, False, f"no end within {seconds} s")
        except AssertionError as error:
            self._record(client, name, started, False, str(error) or traceback.format_exc())
        except Exception as error:
            self._record(client, name, started, False, f"{type(error).__name__}: {error}")
        else:
            detail = value if isinstance(value, str) else ""
            self._record(client, name, started, True, detail)
            return value
        return FAILED

    def fail(self, client, name, detail):
        """Records a check that could not even be tried: this too is a failure."""
        self._record(client, name, time.monotonic(), False, detail)

    def _record(self, client, name, started, passed, detail):
        seconds = time.monotonic() - started
        self.rows.append((client, name, passed, seconds, detail))
        verdict = "pass" if passed else "FAIL"
        print(f"{verdict}  {client}: {name} ({seconds:.1f} s) {detail}", flush=True)

    @property
    def failed(self):
        """How many checks failed so far."""
        return sum(1 for row in self.rows if not row[2])

    def close(self):
        """Prints the table and the closing line; yields the exit status."""
        failed = self.failed
        widths = [max([len(row[i]) for row in self.rows] + [6]) for i in (0, 1)]
        print(f"\n{'client':{widths[0]}}  {'check':{widths[1]}}  result")
        print(f"{'-' * widths[0]}  {'-' * widths[1]}  ------")
        for client, name, passed, _, detail in sorted(self.rows, key=lambda row: row[0]):
            told = "pass" if passed else "FAIL"
            first_line = detail.splitlines()[0] if detail else ""
            print(f"{client:{widths[0]}}  {name:{widths[1]}}  {told}  {first_line}".rstrip())
        print(f"\n{len(self.rows) - failed} passed, {failed} failed", flush=True)
        return 1 if failed or not self.rows else 0
