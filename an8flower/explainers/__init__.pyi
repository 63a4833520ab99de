# For type checkers alone: Python finds `explainers` under this name, see `an8flower.ground.moved`.
from explainers import *
