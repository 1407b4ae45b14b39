"""The command line as other programs call it."""

import signal

import pytest
import typer

from lungbox.cli import TERMINATED, main


def test_sigterm_is_handled_while_a_command_runs_and_not_after(monkeypatch):
    monkeypatch.setattr(signal, "SIG_DFL", signal.getsignal(signal.SIGTERM))
    before, inside = signal.getsignal(signal.SIGTERM), []

    def command(*_, **__):
        inside.append(signal.getsignal(signal.SIGTERM))
        with pytest.raises(SystemExit) as end:
            inside[0]()
        assert end.value.code == TERMINATED

    monkeypatch.setattr(typer.main, "get_command", lambda _: command)
    main.main(["predict"])
    assert inside[0] is not before
    assert signal.getsignal(signal.SIGTERM) is before


def printed(capfd, *arguments):
    with pytest.raises(SystemExit) as ended:
        main.main([*arguments])
    assert ended.value.code == 0
    return " ".join(capfd.readouterr().out.split())


def test_quantise_is_a_hidden_alias_of_quantize(capfd):
    shown = printed(capfd, "--help")
    assert "quantize" in shown
    assert "quantise" not in shown
    of_alias = printed(capfd, "quantise", "--help").replace("quantise", "quantize")
    assert "--images" in of_alias
    assert of_alias == printed(capfd, "quantize", "--help")
