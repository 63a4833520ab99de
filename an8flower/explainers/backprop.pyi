from explainers.backward.backprop import *
