from explainers.layers import *
