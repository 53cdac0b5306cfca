"""A node whose pods are real processes of this machine; see `localcluster.agent.settings`.

Where kwok plays a kubelet, this is a small one. It registers a Node, keeps its Lease, starts what
pods that are bound to it ask for, runs probes and hooks, and reports statuses and events with a
kubelet's words (Kubernetes 1.36, pkg/kubelet). It needs no privilege and no container runtime, and
so cannot do what needs them:

- No image is pulled. A table says which program of this machine stands for an image's program
  (`images`); an image that is not in it cannot be pulled.
- No file system of its own. A volume is a directory; where its mount path stands in the command,
  in an argument, a variable's literal value, a hook or a probe, the directory is put in its place
  (`substitution`). A path that a program makes up itself is this machine's: /dev/shm above all.
  A PersistentVolume is the directory that its hostPath or local path names, where this machine has
  it, else one that the cluster's agents share and that goes with the cluster.
- No network of its own. Each pod has an address of this machine (`addresses`). 127.0.0.1, localhost
  and 0.0.0.0 in the same texts become that address, and `vllm serve` is given `--host`.
- No user, capabilities or cgroup: security contexts do nothing; of the resources, a limit of memory
  is enforced, by looking four times a second, and a container above it is killed as OOMKilled.
- No exec, attach, port-forward, ephemeral containers, sidecar init containers or gRPC probes.

Linux only: addresses, process file descriptors and /proc are.
"""
