"""
Decisions, and nothing else: no sockets, no tasks, no clock, no randomness of its own.

Time enters as the argument `now`, in seconds on any monotonic clock. The same events at the same
times always give the same effects, so every incident can be replayed.
"""
