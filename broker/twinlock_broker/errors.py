"""The two ways in which the broker's work can fail."""


class Fatal(Exception):
    """The broker can't go on; the process prints the text and ends with `status`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        """The exit code, of sysexits.h."""


class CommandError(Exception):
    """A command that can't be carried out."""

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.text = text
        """For the user: what is wrong, and what to do; it holds no secret and no path of the host."""
        self.detail = detail
        """For the administrator; it goes to the log only."""
