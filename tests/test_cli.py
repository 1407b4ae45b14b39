"""The command line as other programs call it."""

import signal

import pytest
import typer

from lungbox import cli
from lungbox.cli_common import TERMINATED


def test_sigterm_is_handled_while_a_command_runs_and_not_after(monkeypatch):
    monkeypatch.setattr(signal, "SIG_DFL", signal.getsignal(signal.SIGTERM))
    before, inside = signal.getsignal(signal.SIGTERM), []

    def command(*_, **__):
        inside.append(signal.getsignal(signal.SIGTERM))
        with pytest.raises(SystemExit) as end:
            inside[0]()
        assert end.value.code == TERMINATED

    monkeypatch.setattr(typer.main, "get_command", lambda _: command)
    cli.main(["predict"])
    assert inside[0] is not before
    assert signal.getsignal(signal.SIGTERM) is before
