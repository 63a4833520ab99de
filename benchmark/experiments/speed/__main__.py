"""`python -m benchmark.experiments.speed`, the name of `speed.links` in version 0.1; to be removed in 0.3."""

from an8flower.ground.deprecated import warn_renamed
from benchmark.experiments.speed.links import main

if __name__ == "__main__":
    warn_renamed("benchmark.experiments.speed", "benchmark.experiments.speed.links", stacklevel=2)
    main()
