"""`python architecture.py`: the networks, side by side; `python architecture.py NAME`: one of them,
part by part."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from lungbox.frameworks import start_keras
from lungbox.weights.fetch import local
from lungbox.weights.manifest import Manifest, load_manifest

if TYPE_CHECKING:
    from lungbox.architecture.plan import Part
    from lungbox.architecture.registry import Network

# Wide enough for a line a network; a narrower terminal breaks lines, a file or pipe need not.
_WIDTH = 130
COUNTED = (
    "GFLOPs: 1e9 operations for one image of the input size, two for each multiply-accumulate of "
    "convolutions and dense layers; the rest is not counted."
)


@dataclass(frozen=True)
class Facts:
    """A network as it is when built at its own input size.

    Attributes:
        network: its entry in the registry.
        parameters: how many weights it has.
        gflops: see `architecture.cost`.
        parts: see `architecture.plan`.
    """

    network: "Network"
    parameters: int
    gflops: float
    parts: "list[Part]"


def facts(name: str) -> Facts:
    """Build the network called `name` and look at it.

    Raises:
        NetworkError: there is none; the nearest is named.
    """
    from lungbox import architecture
    from lungbox.architecture.cost import gflops
    from lungbox.architecture.plan import plan

    model = architecture.build(name)
    network = architecture.describe(name)
    return Facts(network, model.count_params(), gflops(model), plan(model))


def holders(manifest: Manifest, network: str) -> dict[str, list[str]]:
    """The weight files that can be had for a network, and the ensembles each is a member of."""
    return {
        name: [key for key, ensemble in manifest.ensembles.items() if name in ensemble.members]
        for name, weights in manifest.weights.items()
        if weights.architecture == network and weights.sources
    }


def show(console: Console) -> None:
    """Build every registered network and print what it is."""
    start_keras()
    from lungbox import architecture

    manifest = load_manifest()
    table = narrow_table()
    table.add_column("network", overflow="fold")
    for header in ("parameters", "GFLOPs"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("encoder", overflow="fold")
    for header in ("input", "mask\nstride", "image\nhead"):
        table.add_column(header, no_wrap=True)
    table.add_column("weights", overflow="fold")
    for name in architecture.names():
        with console.status(f"building {name}"):
            table.add_row(*_row(facts(name), manifest))
    widen(console)
    console.print(table)
    console.print(COUNTED)
    console.print(
        "input: pixels a side. weights: what --ensemble takes, and whether its file is here."
    )


def show_one(name: str, console: Console) -> None:
    """Build one network and print its parts.

    Raises:
        NetworkError: there is none; the nearest is named.
    """
    start_keras()
    known = facts(name)
    table = narrow_table()
    for header in ("part", "reads", "does"):
        table.add_column(header, overflow="fold")
    for header in ("output", "stride", "parameters", "GFLOPs"):
        table.add_column(header, justify="right", no_wrap=True)
    for part in known.parts:
        table.add_row(*_part_row(part))
    widen(console)
    console.print(f"{name}: {known.network.summary}")
    console.print(f"{known.parameters:,} parameters, {known.gflops:.2f} GFLOPs")
    console.print(table)
    console.print(COUNTED)


def _row(known: Facts, manifest: Manifest) -> tuple[str, ...]:
    network = known.network
    held = holders(manifest, network.name)
    return (
        network.name,
        f"{known.parameters:,}",
        f"{known.gflops:.2f}",
        network.encoder,
        f"{network.image_size}",
        str(network.stride),
        "yes" if network.image_head else "no",
        "\n".join(_held(manifest, name, inside) for name, inside in held.items()) or "-",
    )


def _held(manifest: Manifest, name: str, ensembles: list[str]) -> str:
    state = "here" if local(name, manifest.weights[name]) else "to fetch"
    return f"{', '.join(ensembles) or name} ({state})"


def _part_row(part: "Part") -> tuple[str, ...]:
    from lungbox.architecture.cost import FLOPS_PER_MAC

    return (
        part.name,
        "\n".join(part.reads),
        ", ".join(part.steps),
        " x ".join(map(str, part.shape)),
        str(part.stride or ""),
        f"{part.parameters:,}" if part.parameters else "",
        f"{FLOPS_PER_MAC * part.macs / 1e9:.3f}" if part.macs else "",
    )


def narrow_table() -> Table:
    """Narrow rules: on a narrow terminal names may break, numbers may not."""
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def widen(console: Console) -> None:
    """A file or pipe takes lines of any length; a terminal breaks them itself."""
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
