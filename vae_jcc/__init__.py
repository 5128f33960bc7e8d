"""Joint image compression and classification with variational autoencoders.

The public names load on first use, so that importing this package costs milliseconds and
`vae_jcc.coding` runs where only NumPy and the entropy coder are installed.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae_jcc.coding import BitstreamError
    from vae_jcc.edge import EdgeEncoder
    from vae_jcc.receiver import Receiver

__version__ = "0.1.0"

__all__ = ["BitstreamError", "EdgeEncoder", "Receiver", "__version__"]

_HOME_OF = {
    "BitstreamError": "vae_jcc.coding",
    "EdgeEncoder": "vae_jcc.edge",
    "Receiver": "vae_jcc.receiver",
}


def __getattr__(name: str) -> object:
    """Loads a public name on its first use (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the public names, loaded or not."""
    return sorted({*globals(), *_HOME_OF})
