"""munitaug: unpaired image-to-image translation as data augmentation.

Floor 7: re-exports the public names, each explicitly.
"""

from munitaug._version import __version__ as __version__
from munitaug.adaptation import CONDITIONS as CONDITIONS
from munitaug.adaptation import FitSettings as FitSettings
from munitaug.adaptation import render_table as render_table
from munitaug.adaptation import summarise as summarise
from munitaug.checkpoint import load_method as load
from munitaug.checkpoint import save_method as save
from munitaug.checkpoint import shared_translator as shared_translator
from munitaug.data import DOMAIN_NAMES as DOMAIN_NAMES
from munitaug.data import ImageDomain as ImageDomain
from munitaug.data import open_domain as open_domain
from munitaug.data.hdf5 import AugmentedDataset as AugmentedDataset
from munitaug.method import Method as Method
from munitaug.method import OptimiserSettings as OptimiserSettings
from munitaug.method import Phase as Phase
from munitaug.methods import METHODS as METHODS
from munitaug.methods import Munit as Munit
from munitaug.methods import MunitConfig as MunitConfig
from munitaug.methods import SemanticConsistency as SemanticConsistency
from munitaug.recipes import CheckpointFacts as CheckpointFacts
from munitaug.recipes import DataOptions as DataOptions
from munitaug.recipes import DemoSettings as DemoSettings
from munitaug.recipes import SemanticOptions as SemanticOptions
from munitaug.recipes import checkpoint_facts as checkpoint_facts
from munitaug.recipes import demo as demo
from munitaug.recipes import draw_accuracies as draw_accuracies
from munitaug.recipes import evaluate as evaluate
from munitaug.recipes import generate as generate
from munitaug.recipes import preview as preview
from munitaug.recipes import train as train
from munitaug.recipes import train_classifier as train_classifier
from munitaug.styles import StyleSource as StyleSource
from munitaug.styles import style_source as style_source
from munitaug.training import TrainConfig as TrainConfig
from munitaug.transforms import MUNITTransform as MUNITTransform
from munitaug.translator import Translator as Translator
from munitaug.types import CheckpointError as CheckpointError
from munitaug.types import DivergenceError as DivergenceError
from munitaug.types import DomainError as DomainError
from munitaug.types import Interrupted as Interrupted

__all__ = [
    "CONDITIONS",
    "DOMAIN_NAMES",
    "METHODS",
    "AugmentedDataset",
    "CheckpointError",
    "CheckpointFacts",
    "DataOptions",
    "DemoSettings",
    "DivergenceError",
    "DomainError",
    "FitSettings",
    "ImageDomain",
    "Interrupted",
    "MUNITTransform",
    "Method",
    "Munit",
    "MunitConfig",
    "OptimiserSettings",
    "Phase",
    "SemanticConsistency",
    "SemanticOptions",
    "StyleSource",
    "TrainConfig",
    "Translator",
    "__version__",
    "checkpoint_facts",
    "demo",
    "draw_accuracies",
    "evaluate",
    "generate",
    "load",
    "open_domain",
    "preview",
    "render_table",
    "save",
    "shared_translator",
    "style_source",
    "summarise",
    "train",
    "train_classifier",
]
