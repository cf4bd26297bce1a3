"""The package's exception."""


class FlatnessError(ValueError):
    """What went wrong and where; `hint` says how to mend it, where that is known."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\nhint: {hint}")
        self.hint = hint
