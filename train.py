"""Train what a recipe describes: python train.py recipes/lite0.toml --data DIR"""

import sys

from lungbox.cli.main import main

if __name__ == "__main__":
    main(sys.argv[1:], command_name="train")
