"""Name the one error family: every error that imitrace raises on purpose is an ``ImitraceError``.

ImitraceError
├── ConfigError       a setting, a file or an argument is wrong
├── WireError         bytes that came in can't be read
├── StoreError        the trace store can't be opened, read or written
├── DatasetError      a cohort or dataset can't be made or used
├── CloneError        a clone can't be trained, loaded, gated or promoted
└── BudgetError       work was stopped by a limit that was set to it

A message names the thing, the value got, what was allowed, and for a user's error the command that mends it.
Commands print it as one line and exit with 2.
"""


class ImitraceError(Exception):
    """Report what went wrong in one line that says what to do."""


class ConfigError(ImitraceError):
    """Report a wrong setting, file or argument."""


class WireError(ImitraceError):
    """Report bytes from outside that can't be read."""


class StoreError(ImitraceError):
    """Report a trace store that can't be opened, read or written."""


class DatasetError(ImitraceError):
    """Report a cohort or a dataset that can't be made or used."""


class CloneError(ImitraceError):
    """Report a clone that can't be trained, loaded, gated or promoted."""


class BudgetError(ImitraceError):
    """Report work that was stopped by a limit on its time, rows or calls; what it had done so far is kept."""
