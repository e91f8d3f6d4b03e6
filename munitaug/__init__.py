"""munitaug: unpaired image-to-image translation as data augmentation.

Names are imported when they are first asked for, so that a command which has just begun hears Ctrl-C while torch is
imported. ``__init__.pyi`` has them for type checkers.

Floor 7: re-exports the public names, each explicitly.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

_HOMES = {
    "CONDITIONS": "adaptation",
    "DOMAIN_NAMES": "data",
    "METHODS": "methods",
    "Adapted": "recipes.adapt",
    "AugmentedDataset": "data.hdf5",
    "AugmentingLoader": "transforms",
    "CheckpointError": "types",
    "CheckpointFacts": "recipes.info",
    "ClassBankStyles": "styles",
    "DataOptions": "recipes.options",
    "DemoSettings": "recipes.demo",
    "DivergenceError": "types",
    "DomainError": "types",
    "ExportFacts": "interop.export",
    "Features": "metrics",
    "FitSettings": "adaptation",
    "ImageDomain": "data",
    "Interrupted": "types",
    "LabelGuard": "transforms",
    "LabelReport": "recipes.label_report",
    "MUNITBatchTransform": "transforms",
    "MUNITTransform": "transforms",
    "Method": "method",
    "Metric": "metrics",
    "Munit": "methods",
    "MunitConfig": "methods",
    "OptimiserSettings": "method",
    "Phase": "method",
    "SemanticConsistency": "methods",
    "SemanticOptions": "recipes.train",
    "StyleSource": "styles",
    "TrainConfig": "training",
    "Translator": "translator",
    "VariantDataset": "transforms",
    "__version__": "_version",
    "adapt": "recipes.adapt",
    "checkpoint_facts": "recipes.info",
    "class_bank": "recipes.class_bank",
    "convert": "recipes.convert",
    "coverage_and_density": "metrics",
    "demo": "recipes.demo",
    "draw_accuracies": "recipes.evaluate",
    "evaluate": "recipes.evaluate",
    "export_data": "offline",
    "export_translator": "recipes.export",
    "frechet_distance": "metrics",
    "from_pretrained": "recipes.hub",
    "generate": "recipes.generate",
    "images_to_styles": "kernel",
    "inception_scores": "metrics",
    "interpolate_styles": "styles",
    "kernel_distance": "metrics",
    "label_preservation": "recipes.labels",
    "load": "checkpoint:load_method",
    "load_classifier": "recipes.classifier",
    "measure_translation": "metrics",
    "open_domain": "data",
    "preview": "recipes.preview",
    "push_to_hub": "recipes.hub",
    "render_table": "adaptation",
    "save": "checkpoint:save_method",
    "save_pretrained": "recipes.hub",
    "shared_translator": "checkpoint",
    "style_diversity": "metrics",
    "style_source": "styles",
    "summarise": "adaptation",
    "train": "recipes.train",
    "train_classifier": "recipes.classifier",
    "variant_collate": "transforms",
}
"""The module that each public name comes from; behind a colon its name there, if that is another."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Gives a public name, or a module of the package, and keeps it."""
    if name in _HOMES:
        module, _, known_as = _HOMES[name].partition(":")
        value = getattr(import_module(f"{__name__}.{module}"), known_as or name)
    elif not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Gives what there is, imported or not."""
    return sorted({*globals(), *__all__})
