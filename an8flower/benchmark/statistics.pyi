from benchmark.statistics import *
