"""Counts in messages."""


def counted(number: int | str, noun: str) -> str:
    """``1 minute`` and ``2 minutes``; a number that is a text is taken as it is written."""
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"
