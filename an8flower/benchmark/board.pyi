from benchmark.board import *
