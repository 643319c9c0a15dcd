"""Measure how fast RenderFleet is: against bare Jobs, in the same run, on the same control plane."""
