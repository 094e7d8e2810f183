"""The two ways in which the broker's work can fail."""


class Fatal(Exception):
    """The broker can't go on; the process ends with `status` (sysexits.h) and prints the text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class CommandError(Exception):
    """A command that can't be carried out.

    `text` is for the user: what is wrong, and what to do; it holds no secret and no path of the host. `detail` is for
    the administrator and goes to the log only.
    """

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.detail = detail
