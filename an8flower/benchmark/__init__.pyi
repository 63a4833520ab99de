# For type checkers alone: Python finds `benchmark` under this name, see `an8flower.ground.moved`.
from benchmark import evaluate as evaluate
from benchmark import explain_with_features as explain_with_features
from benchmark import leaderboard as leaderboard
from benchmark import load_model as load_model
from benchmark import train as train
