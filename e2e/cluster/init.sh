#!/bin/bash
# The first process of the node: starts its parts within the namespaces it finds itself in, then reaps orphans.
#
# Comes in: RUN, the run's folder with every configuration file; BIN, the folder of the executables; PAUSE, what reaps.
# Goes out: a log for each part under RUN/logs. Its end is the end of all: the kernel kills what is in its pid namespace.
set -eu
mount --make-rprivate / && mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/lock
mount --bind "$RUN/log" /var/log
hostname node1

# One bridge that carries the node's own address, and a default route into nowhere: nothing leaves these namespaces.
ip link set lo up
ip link add node0 type bridge
ip addr add 10.89.0.1/24 dev node0
ip link set node0 up
ip route add default via 10.89.0.2 dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward

cd "$RUN"
logged() { exec >>"$RUN/logs/$1.log" 2>&1 </dev/null; }
part() { (logged "$1"; shift; exec "$@") & }
until_ready() { until "$BIN/kubectl" --kubeconfig="$RUN/kubeconfig" get --raw /readyz >/dev/null 2>&1; do sleep .2; done; }

part etcd etcd --data-dir "$RUN/etcd" --unsafe-no-fsync --logger zap --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
part containerd containerd -c "$RUN/containerd.toml"
part kube-apiserver "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address=10.89.0.1 --secure-port=6443 \
    --tls-cert-file="$RUN/pki/apiserver.crt" --tls-private-key-file="$RUN/pki/apiserver.key" \
    --client-ca-file="$RUN/pki/ca.crt" --token-auth-file="$RUN/pki/tokens.csv" \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file="$RUN/pki/sa.pub" --service-account-signing-key-file="$RUN/pki/sa.key" \
    --service-cluster-ip-range=10.96.0.0/24 --authorization-mode=Node,RBAC \
    --kubelet-preferred-address-types=InternalIP --allow-privileged=true \
    --enable-priority-and-fairness=false --profiling=false \
    --audit-policy-file="$RUN/audit.yaml" --audit-log-path="$RUN/logs/audit.log"
part kube-controller-manager "$BIN/kube-controller-manager" --kubeconfig="$RUN/kubeconfig" --leader-elect=false \
    --authentication-skip-lookup --root-ca-file="$RUN/pki/ca.crt" --use-service-account-credentials=false \
    --service-account-private-key-file="$RUN/pki/sa.key" --kube-api-qps=200 --kube-api-burst=400 --profiling=false
part kube-scheduler "$BIN/kube-scheduler" --kubeconfig="$RUN/kubeconfig" --leader-elect=false \
    --authentication-skip-lookup --kube-api-qps=200 --kube-api-burst=400
(
    logged kubelet
    until [ -S /run/containerd/containerd.sock ] && ctr version >/dev/null 2>&1; do sleep .1; done
    for image in "$RUN"/images/*.tar; do ctr -n k8s.io images import "$image"; done
    until_ready
    # Killed, it is started again, as the machine's service manager would.
    while :; do
        "$BIN/kubelet" --config="$RUN/kubelet.yaml" --kubeconfig="$RUN/kubeconfig" --root-dir="$RUN/kubelet" \
            --cert-dir="$RUN/kubelet/pki" --hostname-override=node1 --node-ip=10.89.0.1 --v=2 || true
        echo "kubelet has ended and is started again"
        sleep .5
    done
) &
(logged kube-proxy; until_ready; exec "$BIN/kube-proxy" --config="$RUN/kube-proxy.yaml") &
(logged coredns; until_ready; exec "$BIN/coredns" -conf "$RUN/Corefile") &
exec "$PAUSE"
