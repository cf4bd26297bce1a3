"""What cannot be used, and the way out."""


class FlatnessError(ValueError):
    """What went wrong and where; `hint` says how to mend it, and is empty where nobody knows."""

    def __init__(self, message: str, hint: str | None = "") -> None:
        super().__init__(message)
        self.hint = hint or ""

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nhint: {self.hint}" if self.hint else message



class ExportError(FlatnessError):
    """A module that cannot be traced."""
