"""Scripts that measure the project itself: its speed, and whether its claims hold."""
