"""The colours are those of the file."""

import numpy as np

from xai_deploy.pictures import colorize

got = colorize(np.array([[0, 0.5, 1]], np.float32), "traffic-light")
np.testing.assert_allclose(got, [[[255, 0, 0], [255, 255, 0], [0, 255, 0]]], atol=2)
