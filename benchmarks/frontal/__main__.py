"""Make the frontal check, measure it, or compare it with simpler scores:

python -m benchmarks.frontal fit --data DIR --output checkpoints/frontal.safetensors
python -m benchmarks.frontal measure --data DIR
"""

import argparse
from pathlib import Path

from lungbox.common.paths import shipped_checkpoints
from lungbox.radiograph.frontal import FILE


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontal")
    parser.add_argument("command", choices=("fit", "measure", "compare"))
    parser.add_argument("--data", type=Path, required=True, help="labelled radiographs")
    parser.add_argument("--output", type=Path, default=shipped_checkpoints() / FILE)
    arguments = parser.parse_args()
    if arguments.command == "fit":
        from benchmarks.frontal.fit import fit  # starts Keras

        fit(arguments.data, arguments.output)
    elif arguments.command == "compare":
        from benchmarks.frontal.compare import compare

        compare(arguments.data)
    else:
        from benchmarks.frontal.measure import measure

        measure(arguments.data)


if __name__ == "__main__":
    main()
