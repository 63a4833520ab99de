from benchmark.metrics import *
