"""The command line. One module a verb, imported only when that verb runs, so that --help and predict start quickly."""

from cellclf.cli.app import main

__all__ = ["main"]
