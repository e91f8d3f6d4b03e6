"""Where images come from and go to: folders, digit domains, their unpaired stream, augmented HDF5 files."""

from munitaug.data.domain import ArrayDomain as ArrayDomain
from munitaug.data.domain import ImageDomain as ImageDomain
from munitaug.data.domain import load_in_memory as load_in_memory
from munitaug.data.fit import frame_images as frame_images
from munitaug.data.folder import FolderDomain as FolderDomain
from munitaug.data.hdf5 import AugmentedDataset as AugmentedDataset
from munitaug.data.hdf5 import AugmentedFileError as AugmentedFileError
from munitaug.data.loader import UnpairedLoader as UnpairedLoader
from munitaug.data.mnist_m import MnistM as MnistM
from munitaug.data.specs import DOMAIN_NAMES as DOMAIN_NAMES
from munitaug.data.specs import open_domain as open_domain
from munitaug.data.synthetic import SyntheticDigits as SyntheticDigits
