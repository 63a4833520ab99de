from explainers.conformance import *
