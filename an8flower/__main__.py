"""The program `an8flower`, called by `python -m an8flower`."""

from importlib import import_module

if __name__ == "__main__":
    import_module("an8flower.benchmark.__main__").main()
