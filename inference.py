"""Box the lung opacities in a folder of radiographs: python inference.py IMAGE_DIR"""

import sys

from lungbox.cli.main import main

if __name__ == "__main__":
    main(sys.argv[1:], command_name="predict")
