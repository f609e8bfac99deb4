"""What can go wrong in the zoo."""


class ZooError(ValueError):
    """An index, a checkpoint or its download cannot be used; its text is what the user reads."""


class PlaceError(Exception):
    """One place does not give the file; the next one may.

    Args:
        reason: what the place did, to follow its name.
        worthless: whether what was read is no beginning of the file, so that nothing can be resumed from it.
    """

    def __init__(self, reason: str, worthless: bool = False) -> None:
        super().__init__(reason)
        self.worthless = worthless
