"""What can go wrong here.

RealEngineError
├── InstallError    the engine's environment could not be made
├── EngineFailed    a script inside that environment ended with an error
└── ServerFailed    a server ended, or did not answer in time; the message ends with its log
"""


class RealEngineError(Exception):
    """Any failure of the real engine's installation or of a server of it."""


class InstallError(RealEngineError):
    """The environment could not be made; the message says what was tried."""


class EngineFailed(RealEngineError):
    """A script inside the environment failed; the message ends with what it printed."""


class ServerFailed(RealEngineError):
    """A server ended by itself or was not healthy before its deadline."""
