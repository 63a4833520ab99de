from explainers.maps import *
