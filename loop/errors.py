"""What can go wrong in the loop itself. Each message names the fact and the remedy."""

import re


class LoopError(Exception):
    """Base of every error that `loop` raises."""


class BadInput(LoopError):
    """A setting, a file or an argument cannot be used as it is. The command ends with exit status 2."""


class NotStarted(BadInput):
    """There is no state yet."""


class Unavailable(LoopError):
    """A service or a resource is not there now; trying again may help. The command ends with exit status 1."""


def first_line(error: BaseException, longest: int = 200) -> str:
    """What an error says, cut to one line; the name of its kind if it says nothing."""
    said = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # torch prints some in bold
    return (said.strip().splitlines() or [type(error).__name__])[0][:longest]
