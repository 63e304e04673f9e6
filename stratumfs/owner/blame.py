"""The one error to tell of, where nurseries gathered several or wrapped one."""

from stratumfs.errors import StratumError


def is_expected(error: BaseException) -> bool:
    """The environment's doing or the user's, no bug of ours: one line is enough."""
    return isinstance(error, StratumError | OSError)


def cause_of(error: BaseException) -> BaseException:
    """What is to blame: the first error that nobody foresaw, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [cause_of(one) for one in error.exceptions]
    bugs = [one for one in causes if not is_expected(one)]
    return (bugs or causes)[0]
