"""The one exception that bad compressed input raises."""


class BitstreamError(ValueError):
    """Compressed data, or a table file, that cannot be read.

    The message names the cause: not a vae_jcc file, a newer format, made by another model,
    truncated, altered, larger than the limit, or by an entropy coder whose library is not installed.
    Nothing of the input's claimed size has been allocated when it is raised.
    """
