"""One file per paper; METHODS is the whole registry, written by hand.

Floor 4: imports floors 1-3.
"""

from munitaug.method import MethodClass
from munitaug.methods.cut import Cut, CutConfig
from munitaug.methods.cyclegan import CycleGan, CycleGanConfig
from munitaug.methods.distancegan import DistanceGan, DistanceGanConfig
from munitaug.methods.dritpp import Dritpp, DritppConfig
from munitaug.methods.gcgan import GcGan, GcGanConfig
from munitaug.methods.multidomain import MultiDomain, MultiDomainConfig
from munitaug.methods.munit import Munit, MunitConfig
from munitaug.methods.semantic import SemanticConsistency
from munitaug.methods.transgaga import TransGaga, TransGagaConfig
from munitaug.methods.unit import Unit, UnitConfig

METHODS: dict[str, MethodClass] = {
    "munit": Munit,
    "cut": Cut,
    "cyclegan": CycleGan,
    "distancegan": DistanceGan,
    "dritpp": Dritpp,
    "gcgan": GcGan,
    "transgaga": TransGaga,
    "unit": Unit,
    "multidomain": MultiDomain,
}
"""Method classes by the name that the CLI, checkpoints and config files use."""

__all__ = [
    "METHODS",
    "Cut",
    "CutConfig",
    "CycleGan",
    "CycleGanConfig",
    "DistanceGan",
    "DistanceGanConfig",
    "Dritpp",
    "DritppConfig",
    "GcGan",
    "GcGanConfig",
    "MultiDomain",
    "MultiDomainConfig",
    "Munit",
    "MunitConfig",
    "SemanticConsistency",
    "TransGaga",
    "TransGagaConfig",
    "Unit",
    "UnitConfig",
]
