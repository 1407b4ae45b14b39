"""`python architecture.py [NAME]`: a table of all networks, or the layers of one."""

from rich.console import Console

from lungbox.cli import narrow_table
from lungbox.common.backend import start_keras

COLUMNS = ("network", "kind", "parameters", "GFLOPs", "input")


def row(name: str) -> tuple[str, ...]:
    """A network's row in the table, at its default input size."""
    from lungbox import architecture
    from lungbox.architecture.cost import gflops

    model, entry = architecture.build(name), architecture.describe(name)
    side = entry.image_size
    parameters = f"{model.count_params():,}"
    return name, entry.kind, parameters, f"{gflops(model):.2f}", f"{side} x {side}"


def show(console: Console) -> None:
    """Build every registered network and print the table."""
    start_keras()
    from lungbox import architecture

    table = narrow_table()
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for figures in table.columns[2:4]:
        figures.justify, figures.no_wrap = "right", True
    for name in architecture.names():
        with console.status(f"building {name}"):
            table.add_row(*row(name))
    console.print(table)
    console.print("GFLOPs: of convolutions and dense layers, for one image of the input size")


def show_one(name: str, console: Console) -> None:
    """Build one network and print its Keras summary.

    Raises:
        NetworkError: no network has this name; the message suggests the nearest.
    """
    start_keras()
    from lungbox import architecture

    console.print(f"{name}: {architecture.describe(name).summary}")
    architecture.build(name).summary(print_fn=lambda text: console.print(text, markup=False))
