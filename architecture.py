"""The networks by name; python architecture.py [NAME] prints them.

from architecture import build
network = build("unet_lite0")
"""

import sys
from typing import Any

from lungbox.cli.main import main


def __getattr__(name: str) -> Any:
    # Keras is imported when a network is requested, and not before.
    from lungbox import architecture

    return getattr(architecture, name)


if __name__ == "__main__":
    main(sys.argv[1:], command_name="networks")
