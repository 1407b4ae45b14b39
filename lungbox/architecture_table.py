"""`python architecture.py`: the networks, side by side."""

from rich.console import Console
from rich.table import Table

from lungbox.frameworks import start_keras


def show(console: Console) -> None:
    """Build every registered network and print what it is."""
    start_keras()
    from lungbox import architecture

    table = Table("network", "encoder", "input", "mask", "image head", "parameters")
    for name in architecture.names():
        network = architecture.describe(name)
        model = architecture.build(name)
        side = network.image_size
        table.add_row(
            name,
            network.encoder,
            f"{side} x {side}",
            f"{side // network.stride} x {side // network.stride}",
            "yes" if network.image_head else "no",
            f"{model.count_params():,}",
        )
    console.print(table)
