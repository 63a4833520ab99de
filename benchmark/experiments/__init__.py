"""Scripts that measure the project itself: how fast it is, and whether its claims hold."""
