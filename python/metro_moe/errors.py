# SPDX-License-Identifier: Apache-2.0
"""What the library raises: one line that names the field, index and value, and what would be right."""


class MetroError(Exception):
    """Base of all errors of the library; `code` is the exit code of the command line."""

    code = 1


class UsageError(MetroError, ValueError):
    """An argument is out of its own range."""

    code = 2


class InputError(MetroError, ValueError):
    """Data is missing, unreadable or malformed, or an argument does not fit it."""

    code = 3


class InfeasibleError(MetroError, ValueError):
    """Everything is well-formed, but the request is impossible."""

    code = 4


class DeviceError(MetroError, RuntimeError):
    """CUDA or the device itself failed, or the package was built without CUDA."""

    code = 5
