"""What can go wrong between the loop and Label Studio. Each message names the fact and the remedy."""


class AnnotateError(Exception):
    """Base of every error that `annotate` raises."""


class StudioUnavailable(AnnotateError):
    """Label Studio did not answer, or answered that it cannot now. Trying again later may help."""


class StudioRefused(AnnotateError):
    """Label Studio understood and said no: wrong key, missing project, rejected data."""


class BadInterface(AnnotateError):
    """The labelling interface cannot be read as findings, or findings cannot make one."""


class PushUnconfirmed(AnnotateError):
    """A batch was sent, but reading it back did not show what was sent."""


class BadAnswer(AnnotateError):
    """An annotation holds an answer that the labelling interface does not know."""
