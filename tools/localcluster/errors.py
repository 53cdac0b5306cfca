"""What can go wrong here.

LocalClusterError
├── BuildError      a binary could not be found, built, or run
├── StartError      a component did not become ready; the message ends with the tail of its log
├── KubectlError    kubectl exited with a status other than 0
└── ApiError        the API server answered with 400 or above (in `client`)
"""


class LocalClusterError(Exception):
    """Any failure of the local cluster itself or of a call to it."""


class BuildError(LocalClusterError):
    """A binary is missing and could not be built; the message says what to install."""


class StartError(LocalClusterError):
    """A component ended or did not become ready in time."""


class KubectlError(LocalClusterError):
    """kubectl failed; `returncode`, `stdout` and `stderr` are what it left."""

    def __init__(self, message: str, returncode: int, stdout: str, stderr: str) -> None:
        super().__init__(message)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
