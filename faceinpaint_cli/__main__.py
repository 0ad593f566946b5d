"""`python -m faceinpaint_cli` and the console script."""

from faceinpaint_cli.cli import main

if __name__ == "__main__":
    main()
