"""The program `an8flower`, called by `python -m an8flower`."""

from an8flower.benchmark.__main__ import main

if __name__ == "__main__":
    main()
