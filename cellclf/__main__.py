"""`python -m cellclf`."""

from cellclf.cli import main

main()
