"""What cannot be used, and the way out."""


class InputError(ValueError):
    """A module, a loss or data that flatness cannot use; `hint` says how to mend it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nhint: {self.hint}" if self.hint else message


class ExportError(InputError):
    """A module that cannot be traced."""
