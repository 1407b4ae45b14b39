"""`python -m lungbox`."""

from lungbox.cli import main

main()
