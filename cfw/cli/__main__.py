"""`python -m cfw.cli` is the `cfw` command."""

from cfw.cli import main

if __name__ == "__main__":
    main()
