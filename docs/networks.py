"""Writes what networks.md says from the code: its table and its diagrams.

    python docs/networks.py

What stands between `<!-- generated: NAME -->` and `<!-- end -->` is made from the built networks
and the manifest that comes with Lungbox; the prose around it is written by hand and stays.
"""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from lungbox import architecture_table
from lungbox.architecture_table import Facts, holders
from lungbox.frameworks import start_keras
from lungbox.weights.manifest import Manifest, read_manifest, shipped_path

if TYPE_CHECKING:
    from lungbox.architecture.plan import Part

PAGE = Path(__file__).with_name("networks.md")
TABLE = "table"
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def filled(page: str) -> str:
    """The page with every generated block as the code has it now.

    Raises:
        KeyError: a block names no network.
    """
    start_keras()
    from lungbox import architecture

    known = {name: architecture_table.facts(name) for name in architecture.names()}
    blocks = {name: diagram(facts) for name, facts in known.items()}
    blocks[TABLE] = table(list(known.values()), read_manifest(shipped_path()))
    return _BLOCK.sub(lambda found: f"{found[1]}{blocks[found[2]]}\n{found[3]}", page)


def table(networks: list[Facts], manifest: Manifest) -> str:
    """All networks side by side, in Markdown."""
    header = (
        "network",
        "parameters",
        "GFLOPs",
        "encoder",
        "input",
        "mask stride",
        "image head",
        "published weights",
    )
    rows = [header, ("---", "--:", "--:", "---", "---", "---", "---", "---")]
    for facts in networks:
        network, side = facts.network, facts.network.image_size
        rows.append(
            (
                f"[`{network.name}`](#{network.name})",
                f"{facts.parameters:,}",
                f"{facts.gflops:.2f}",
                network.encoder,
                f"{side} x {side}",
                str(network.stride),
                "yes" if network.image_head else "no",
                _published(manifest, network.name),
            )
        )
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join((*lines, "", architecture_table.COUNTED))


def diagram(facts: Facts) -> str:
    """A network's parts as a Mermaid flowchart, which GitHub draws."""
    lines = ["```mermaid", "flowchart TB"]
    titles = {"encoder": f"encoder: {facts.network.encoder}", "decoder": "decoder"}
    for kind in ("input", "encoder", "attention", "decoder", "head"):
        nodes = [f'{part.name}["{_label(part)}"]' for part in facts.parts if part.kind == kind]
        if kind in titles:
            nodes = [f'subgraph {kind}_parts["{titles[kind]}"]', *_indented(nodes), "end"]
        lines += _indented(nodes)
    links = [f"{source} --> {part.name}" for part in facts.parts for source in part.reads]
    return "\n".join((*lines, *_indented(links), "```"))


def _label(part: "Part") -> str:
    size = " x ".join(map(str, part.shape))
    if part.kind == "input":
        return f"{part.name}<br/>{size}, gray 0-255"
    output = f"stride {part.stride}, {part.channels} channels" if part.stride else "1 number"
    return "<br/>".join((part.name, ", ".join(part.steps), output))


def _published(manifest: Manifest, network: str) -> str:
    cells = []
    for name, ensembles in holders(manifest, network).items():
        ships = any(source.startswith("file:") for source in manifest.weights[name].sources)
        facts = [*(f"in `{ensemble}`" for ensemble in ensembles), "ships" if ships else "fetched"]
        cells.append(f"`{name}` ({', '.join(facts)})")
    return "<br/>".join(cells) or "-"


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


if __name__ == "__main__":
    main()
