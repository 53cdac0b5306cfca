#!/usr/bin/env bash
# The operator on kind: its real image, in a pod, installed by Helm. `make e2e-kind` calls this.
#
# NEVER RUN with kind: there is no Docker where it was written. What was run is its kubectl and helm
# commands, on the local cluster of tools/localcluster, with docker and kind replaced by stubs and
# the operator as a process beside. Whoever runs it first: please report what you had to change.
#
# Needs docker, kind, kubectl and helm. kind's node has no GPU: one is written into its labels and
# its capacity, so the engine's pod is scheduled there. It cannot start: the engine's image is
# replaced by a small one that serves /health, so that the probes are real and vLLM is not.
set -euo pipefail

cd "$(dirname "$0")/.."

CLUSTER="vllm-operator-e2e-$$"
IMAGE="vllm-operator:e2e"
ENGINE="vllm-stand-in:v0.30.0"
WORK="$(mktemp -d)"
export KUBECONFIG="$WORK/kubeconfig"

say() { printf '\n== %s\n' "$*"; }

fail() {
  printf '\nFAILED: %s\n' "$*" >&2
  exit 1
}

finish() {
  local status=$?
  if [ "$status" -ne 0 ]; then
    say "what there is"
    kubectl get vllm,deployment,pod,service -A -o wide || true
    kubectl get vllm qwen -o yaml || true
    kubectl -n vllm-operator logs deployment/vllm-operator --tail=100 || true
    kind export logs --name "$CLUSTER" "$WORK/logs" && echo "kind's logs: $WORK/logs"
  fi
  kind delete cluster --name "$CLUSTER" || true
  [ "$status" -ne 0 ] || rm -rf "$WORK"
}

for tool in docker kind kubectl helm; do
  command -v "$tool" >/dev/null || fail "$tool is needed"
done
trap finish EXIT

say "cluster"
kind create cluster --name "$CLUSTER" --wait 120s

say "images"
docker build --tag "$IMAGE" .
mkdir "$WORK/engine"
cat >"$WORK/engine/vllm" <<'END'
#!/bin/sh
# Stands in for `vllm serve`: answers 200 on every path of port 8000, /health among them.
exec python3 -c '
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
HTTPServer(("", 8000), Answer).serve_forever()'
END
cat >"$WORK/engine/Dockerfile" <<'END'
FROM python:3.12-slim-bookworm
COPY --chmod=755 vllm /usr/local/bin/vllm
END
docker build --tag "$ENGINE" "$WORK/engine"
kind load docker-image --name "$CLUSTER" "$IMAGE" "$ENGINE"

say "a GPU that does not exist"
NODE="$(kubectl get nodes -o jsonpath='{.items[0].metadata.name}')"
kubectl label node "$NODE" \
  nvidia.com/gpu.present=true nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3 \
  nvidia.com/gpu.memory=81559 nvidia.com/gpu.count=8 nvidia.com/gpu.replicas=1
# The kubelet keeps extended resources that it does not manage.
kubectl patch node "$NODE" --subresource=status --type=json --patch '[
  {"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "8"},
  {"op": "add", "path": "/status/allocatable/nvidia.com~1gpu", "value": "8"}]'

say "operator"
helm install vllm-operator charts/vllm-operator --namespace vllm-operator --create-namespace \
  --set image.repository="${IMAGE%:*}" --set image.tag="${IMAGE#*:}" \
  --set image.pullPolicy=Never --set hub.enabled=false --set defaultImage="$ENGINE" \
  --wait --timeout 120s

say "server"
# Small requests: kind's node is a laptop, not a GPU server.
kubectl apply -f examples/01-minimal.yaml
kubectl patch vllm qwen --type merge --patch \
  '{"spec": {"pod": {"resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}}}'
kubectl wait vllm/qwen --for=condition=Planned --timeout=60s
kubectl wait vllm/qwen --for=condition=Ready --timeout=180s
kubectl get vllm,deployment,service,pod -o wide

say "checks"
expect() {
  local what="$1" wanted="$2" seen
  shift 2
  seen="$("$@")"
  [ "$seen" = "$wanted" ] || fail "$what: expected '$wanted', seen '$seen'"
  echo "ok: $what is '$seen'"
}
engine='{.spec.template.spec.containers[0]'
expect "the GPU limit" 1 \
  kubectl get deployment qwen -o jsonpath="$engine.resources.limits.nvidia\.com/gpu}"
expect "the image" "$ENGINE" kubectl get deployment qwen -o jsonpath="$engine.image}"
expect "the plan's GPU" NVIDIA-H100-80GB-HBM3 \
  kubectl get vllm qwen -o jsonpath='{.status.plan.placement.gpu}'
expect "Ready's reason" Ready \
  kubectl get vllm qwen -o jsonpath='{.status.conditions[?(@.type=="Ready")].reason}'
expect "Stalled" False \
  kubectl get vllm qwen -o jsonpath='{.status.conditions[?(@.type=="Stalled")].status}'
expect "the pod's Pod Security profile" RuntimeDefault \
  kubectl get deployment qwen -o jsonpath='{.spec.template.spec.securityContext.seccompProfile.type}'
kubectl diff -f examples/01-minimal.yaml || fail "kubectl diff shows a difference"
echo "ok: kubectl diff is empty"

say "drift"
kubectl set image deployment/qwen engine=busybox
kubectl wait deployment/qwen --timeout=30s --for=jsonpath="$engine.image}=$ENGINE"

say "uninstall keeps the servers"
helm uninstall vllm-operator --namespace vllm-operator --wait
kubectl get vllm/qwen deployment/qwen
kubectl delete -f examples/01-minimal.yaml
kubectl wait deployment/qwen --for=delete --timeout=60s

say "done"
