"""Offline generation: a data set, K styled variants of every image, in HDF5.

Floor 4: imports floors 1 to 3; blind to methods, training and adaptation.
"""

from munitaug.offline.exports import export_data as export_data
from munitaug.offline.generate import generate as generate
from munitaug.offline.plan import Stripe as Stripe

__all__ = ["Stripe", "export_data", "generate"]
