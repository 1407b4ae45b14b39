"""`python -m lungbox`."""

from lungbox.cli.main import main

main()
