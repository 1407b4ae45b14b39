"""The command line, `lungbox COMMAND`; one module for each group of commands."""
