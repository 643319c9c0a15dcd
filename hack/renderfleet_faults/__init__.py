"""Fault suites: break a real operator and real runners at every point where they touch the world, and check the world.

crash    the operator dies, loses an answer or loses a watch line at each of its own steps; the end must be the same
money    a runner dies or runs twice at each of its steps; no paid call may happen twice, no paid answer may get lost
"""
