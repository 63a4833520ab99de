from explainers.vebi import *
