"""Offline generation: a data set, K styled variants of every image, one HDF5 file.

Floor 4: imports floors 1 to 3; blind to methods, training and adaptation.
"""

from munitaug.offline.generate import generate as generate

__all__ = ["generate"]
