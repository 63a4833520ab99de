"""Build the leaderboard from records: its rows, its text, its pictures.

>>> from benchmark.board import Leaderboard, leaderboard
"""

from benchmark.board.rows import Leaderboard, leaderboard

__all__ = ["Leaderboard", "leaderboard"]
