"""Where the parts of a portrait are, so that one program can draw a face and another can make it speak.

All lengths are fractions of the picture's shorter side, measured from its centre; y grows downwards.
"""

HEAD_CENTRE_Y = -0.02
HEAD_HALF_WIDTH = 0.21
HEAD_HALF_HEIGHT = 0.275
EYE_X = 0.085
EYE_Y = -0.06
EYE_HALF_WIDTH = 0.038
EYE_HALF_HEIGHT = 0.026
MOUTH_Y = 0.135
MOUTH_HALF_WIDTH = 0.072

MARK = "renderfleet-standin-portrait"
"""Written into the pictures drawn here, so that the video side knows that the eyes are where this file says."""
