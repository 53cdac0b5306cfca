"""Container images on a machine without a container engine: the operator's, and the tests'."""
