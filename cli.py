"""Run geoseg's command line from a checkout: ``python cli.py predict …``."""

from geoseg.cli import main

if __name__ == "__main__":
    main()
