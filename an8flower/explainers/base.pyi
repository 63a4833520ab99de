from explainers.base import *
