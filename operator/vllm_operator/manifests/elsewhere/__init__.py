"""The same server outside of Kubernetes: a compose file, units of systemd and podman, a script.

::

    targets <- compose, quadlet, systemd, shell <- head, units, mounts, paths, health, quoting
            <- container, devices, fields

``targets.elsewhere`` is the way in. What runs comes from the rendered pod template, so that nothing
is decided twice; what a target does with each field of a specification stands in ``fields.csv``.
"""
