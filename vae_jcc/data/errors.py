"""What can go wrong with data, in two classes."""


class DataError(ValueError):
    """A data set, split or setting that cannot be used; the message says what to do instead."""


class CorruptImageError(DataError):
    """One image that cannot be decoded; the message names its file or its record."""
