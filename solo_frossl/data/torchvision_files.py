"""Reading and downloading the files of torchvision's datasets, with errors that name the place and the remedy."""

from pathlib import Path

from torchvision.datasets import CIFAR10, STL10, VisionDataset
from torchvision.datasets.utils import check_integrity, download_and_extract_archive

Files = type[CIFAR10] | type[STL10]


def read_files(dataset: Files, root: str, **part: str | bool) -> VisionDataset:
    """One part of a dataset, every file of which torchvision has checked.

    Args:
        dataset: torchvision's class.
        root: folder that holds the dataset's own folder.
        part: which part, in torchvision's words.

    Raises:
        FileNotFoundError: the dataset's folder is missing.
        ValueError: a file is missing or its checksum differs.
    """
    folder = Path(root).absolute() / dataset.base_folder
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{dataset.__name__} is not in {folder}: set data.download to true, or data.root to the folder that holds "
            f"{dataset.base_folder}"
        )
    try:
        return dataset(root, **part)
    except RuntimeError as error:
        raise ValueError(
            f"missing or damaged in {folder}: {', '.join(_damaged(dataset, folder))}. Delete that folder and set "
            "data.download to true"
        ) from error


def download_files(dataset: Files, root: str) -> None:
    """Download and unpack a dataset unless all its files are there and whole.

    Args:
        dataset: torchvision's class, which knows the address and the checksums.
        root: folder that will hold the archive and the dataset's own folder.

    Raises:
        FileNotFoundError: the download failed or is damaged.
    """
    if not _damaged(dataset, Path(root) / dataset.base_folder):
        return
    try:
        download_and_extract_archive(dataset.url, root, filename=dataset.filename, md5=dataset.tgz_md5)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"{dataset.__name__} is not in {Path(root).absolute()}, and downloading {dataset.url} failed: {error}. Try "
            f"again, or put {dataset.filename} there by hand"
        ) from error


def _damaged(dataset: Files, folder: Path) -> list[str]:
    files = [*dataset.train_list, *dataset.test_list]
    if hasattr(dataset, "meta"):
        files.append((dataset.meta["filename"], dataset.meta["md5"]))
    return [name for name, md5 in files if not check_integrity(folder / name, md5)]
