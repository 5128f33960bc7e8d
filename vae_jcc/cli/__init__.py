"""The console command `vae-jcc`."""

from vae_jcc.cli.main import main

__all__ = ["main"]
