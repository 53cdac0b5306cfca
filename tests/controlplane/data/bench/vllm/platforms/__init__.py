"""What vLLM finds where there is no GPU."""


class UnspecifiedPlatform:
    """No platform at all."""


current_platform: object = UnspecifiedPlatform()
