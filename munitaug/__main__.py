"""``python -m munitaug``: the command line.

Floor 8: uses public names only.
"""

from munitaug.cli import main

if __name__ == "__main__":
    main()
