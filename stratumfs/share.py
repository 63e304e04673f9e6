"""For whom a task works, where that decides how many of its kind may wait."""

from contextvars import ContextVar

OF_MOUNT: ContextVar[bool] = ContextVar("OF_MOUNT", default=False)
"""A mount answers so many requests at once and no more: few of them may wait for what is slow."""
