"""`python -m benchmark` is the command `an8flower`."""

from benchmark.cli import main

if __name__ == "__main__":
    main()
