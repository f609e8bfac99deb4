"""ImageNet and ImageNet-100: the training and validation images in one folder a class."""

from typing import ClassVar

from solo_frossl.data.folder import ImageFolder


class ImageNet(ImageFolder):
    """ImageNet (ILSVRC 2012): ``train/n01440764/*.JPEG`` and ``val/n01440764/*.JPEG``, 1000 classes.

    The classes are those of a class list where one is given, else there must be 1000 folders. The validation archive
    holds its 50,000 images in one folder: sort them into the folders of their classes first.

    Args:
        train: folder of the training images, relative to root.
        val: folder of the validation images, relative to root.
    """

    published_classes: ClassVar[int] = 1000
    """Classes that results on this dataset are given for."""

    def __init__(self, *, train: str = "train", val: str = "val", class_list: str | None = None, **kwargs) -> None:
        super().__init__(train=train, val=val, class_list=class_list, **kwargs)
        self.check_classes(class_list)

    def check_classes(self, class_list: str | None) -> None:
        """Refuse a number of classes that would not be what the dataset's name promises.

        Raises:
            ValueError: other than 1000 class folders, without a class list.
        """
        if class_list is None and self.num_classes not in (0, self.published_classes):
            raise ValueError(
                f"{self.train_folder} has {self.num_classes} class folders, and ImageNet has {self.published_classes};"
                " to train on some of its classes name them in a file: data.class_list"
            )


class ImageNet100(ImageNet):
    """ImageNet-100: the 100 classes of ImageNet that a class list names, or a folder that holds only these.

    Which 100 is up to the list; results are comparable between runs with the same one. The usual list is that of Tian
    et al. 2020 (Contrastive Multiview Coding), which their code holds; it does not come with this package.
    """

    published_classes: ClassVar[int] = 100

    def check_classes(self, class_list: str | None) -> None:
        """Refuse other than 100 classes.

        Raises:
            ValueError: naming where the classes come from.
        """
        if self.num_classes not in (0, self.published_classes):
            place = f"{self.train_folder} has" if class_list is None else f"data.class_list {class_list} names"
            raise ValueError(
                f"{place} {self.num_classes} classes, and ImageNet-100 has {self.published_classes}: set"
                " data.class_list to a file with the 100 names of class folders (n01440764, ...), one a line"
            )
