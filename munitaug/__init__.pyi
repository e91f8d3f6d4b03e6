"""What type checkers read of the public names; ``__init__.py`` imports them when they are asked for.

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
from munitaug.interop.export import ExportFacts as ExportFacts
from munitaug.kernel import images_to_styles as images_to_styles
from munitaug.method import Method as Method
from munitaug.method import OptimiserSettings as OptimiserSettings
from munitaug.method import Phase as Phase
from munitaug.methods import METHODS as METHODS
from munitaug.methods import Munit as Munit
from munitaug.methods import MunitConfig as MunitConfig
from munitaug.methods import SemanticConsistency as SemanticConsistency
from munitaug.metrics import Features as Features
from munitaug.metrics import Metric as Metric
from munitaug.metrics import coverage_and_density as coverage_and_density
from munitaug.metrics import frechet_distance as frechet_distance
from munitaug.metrics import inception_scores as inception_scores
from munitaug.metrics import kernel_distance as kernel_distance
from munitaug.metrics import measure_translation as measure_translation
from munitaug.metrics import style_diversity as style_diversity
from munitaug.offline import export_data as export_data
from munitaug.recipes.adapt import Adapted as Adapted
from munitaug.recipes.adapt import adapt as adapt
from munitaug.recipes.class_bank import class_bank as class_bank
from munitaug.recipes.classifier import load_classifier as load_classifier
from munitaug.recipes.classifier import train_classifier as train_classifier
from munitaug.recipes.convert import convert as convert
from munitaug.recipes.demo import DemoSettings as DemoSettings
from munitaug.recipes.demo import demo as demo
from munitaug.recipes.evaluate import draw_accuracies as draw_accuracies
from munitaug.recipes.evaluate import evaluate as evaluate
from munitaug.recipes.export import export_translator as export_translator
from munitaug.recipes.generate import generate as generate
from munitaug.recipes.hub import from_pretrained as from_pretrained
from munitaug.recipes.hub import push_to_hub as push_to_hub
from munitaug.recipes.hub import save_pretrained as save_pretrained
from munitaug.recipes.info import CheckpointFacts as CheckpointFacts
from munitaug.recipes.info import checkpoint_facts as checkpoint_facts
from munitaug.recipes.label_report import LabelReport as LabelReport
from munitaug.recipes.labels import label_preservation as label_preservation
from munitaug.recipes.options import DataOptions as DataOptions
from munitaug.recipes.preview import preview as preview
from munitaug.recipes.train import SemanticOptions as SemanticOptions
from munitaug.recipes.train import train as train
from munitaug.styles import ClassBankStyles as ClassBankStyles
from munitaug.styles import StyleSource as StyleSource
from munitaug.styles import interpolate_styles as interpolate_styles
from munitaug.styles import style_source as style_source
from munitaug.training import TrainConfig as TrainConfig
from munitaug.transforms import AugmentingLoader as AugmentingLoader
from munitaug.transforms import LabelGuard as LabelGuard
from munitaug.transforms import MUNITBatchTransform as MUNITBatchTransform
from munitaug.transforms import MUNITTransform as MUNITTransform
from munitaug.transforms import VariantDataset as VariantDataset
from munitaug.transforms import variant_collate as variant_collate
from munitaug.translator import Translator as Translator
from munitaug.types import CheckpointError as CheckpointError
from munitaug.types import DivergenceError as DivergenceError
from munitaug.types import DomainError as DomainError
from munitaug.types import Interrupted as Interrupted

__all__ = [
    "CONDITIONS",
    "DOMAIN_NAMES",
    "METHODS",
    "Adapted",
    "AugmentedDataset",
    "AugmentingLoader",
    "CheckpointError",
    "CheckpointFacts",
    "ClassBankStyles",
    "DataOptions",
    "DemoSettings",
    "DivergenceError",
    "DomainError",
    "ExportFacts",
    "Features",
    "FitSettings",
    "ImageDomain",
    "Interrupted",
    "LabelGuard",
    "LabelReport",
    "MUNITBatchTransform",
    "MUNITTransform",
    "Method",
    "Metric",
    "Munit",
    "MunitConfig",
    "OptimiserSettings",
    "Phase",
    "SemanticConsistency",
    "SemanticOptions",
    "StyleSource",
    "TrainConfig",
    "Translator",
    "VariantDataset",
    "__version__",
    "adapt",
    "checkpoint_facts",
    "class_bank",
    "convert",
    "coverage_and_density",
    "demo",
    "draw_accuracies",
    "evaluate",
    "export_data",
    "export_translator",
    "frechet_distance",
    "from_pretrained",
    "generate",
    "images_to_styles",
    "inception_scores",
    "interpolate_styles",
    "kernel_distance",
    "label_preservation",
    "load",
    "load_classifier",
    "measure_translation",
    "open_domain",
    "preview",
    "push_to_hub",
    "render_table",
    "save",
    "save_pretrained",
    "shared_translator",
    "style_diversity",
    "style_source",
    "summarise",
    "train",
    "train_classifier",
    "variant_collate",
]
