"""The root of every error a user can mend; its message is a sentence for them."""


class LungboxError(Exception):
    """Something outside the code is not as it should be; the message says what, and what to do."""
