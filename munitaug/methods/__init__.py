"""One file per paper; METHODS is the whole registry, written by hand.

Floor 4: imports floors 1-3.
"""

from munitaug.method import MethodClass
from munitaug.methods.distancegan import DistanceGan, DistanceGanConfig
from munitaug.methods.gcgan import GcGan, GcGanConfig
from munitaug.methods.munit import Munit, MunitConfig
from munitaug.methods.semantic import SemanticConsistency
from munitaug.methods.transgaga import TransGaga, TransGagaConfig

METHODS: dict[str, MethodClass] = {"munit": Munit, "distancegan": DistanceGan, "gcgan": GcGan, "transgaga": TransGaga}
"""Method classes by the name that the CLI, checkpoints and config files use."""

__all__ = [
    "METHODS",
    "DistanceGan",
    "DistanceGanConfig",
    "GcGan",
    "GcGanConfig",
    "Munit",
    "MunitConfig",
    "SemanticConsistency",
    "TransGaga",
    "TransGagaConfig",
]
