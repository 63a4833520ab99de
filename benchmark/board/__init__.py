"""Build the leaderboard from records: its rows, its text, its pictures.

>>> from benchmark.board import Leaderboard, leaderboard
"""

from an8flower.ground.deprecated import renamed
from benchmark.board.rows import Leaderboard, leaderboard

__all__ = ["Leaderboard", "leaderboard"]

__getattr__ = renamed(
    __name__,
    {
        "ROLES": "benchmark.board.rows.ROLES",
        "SCORE": "benchmark.board.rows.SCORE",
        "DIAGRAM": "benchmark.board.rows.DIAGRAM",
        "COSTS": "benchmark.board.rows.COSTS",
        "SEED": "benchmark.board.rows.SEED",
        "board_of": "benchmark.board.rows.board_of",
        "boards_in": "benchmark.board.rows.boards_in",
    },
)
