#!/usr/bin/env bash
# Varve beside Debian's prometheus and victoria-metrics in one run, on this machine: each starts on an empty folder,
# takes the same samples by remote write, settles, its folder is measured, and it answers the same queries; then the
# tables are printed and all answers compared with Prometheus's.
#   benches/compare.sh [HOSTS] [HOURS]        (default 200 6: 100 000 series, 144 M samples; 5 GB of room below TMPDIR)
# PATH decides which servers are taken; one that is not there is left out. KEEP=folder keeps figures and logs.
set -euo pipefail
cd "$(dirname "$0")/.."
hosts=${1:-200} hours=${2:-6}
cargo build --release --bin varve --bin drive -p varve-server -p varve-benches
target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
bin=$target/release
work=$(mktemp -d)
results=${KEEP:-$work/results}
mkdir -p "$results"
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT
printf 'global: {scrape_interval: 1h}\n' >"$work/prometheus.yml"

run() { # name, port, ready path, flush request, command…
  local name=$1 port=$2 ready=$3 flush=$4
  shift 4
  command -v "$1" >/dev/null || { echo "!!! SKIPPED: $1 is not installed"; return; }
  echo "== $name: $("$1" --version 2>&1 | grep -m1 .)"
  "$@" >"$results/$name.log" 2>&1 &
  pid=$!
  for _ in $(seq 600); do
    curl -fs -o /dev/null "http://127.0.0.1:$port$ready" && break
    kill -0 $pid 2>/dev/null || { echo "!!! $name ended at its start:"; tail -5 "$results/$name.log"; exit 1; }
    sleep 0.1
  done
  curl -fs -o /dev/null "http://127.0.0.1:$port$ready" || { echo "!!! $name is not ready after a minute"; exit 1; }
  "$bin/drive" send --load "$work/load" --url "http://127.0.0.1:$port" --pid $pid --save "$results/$name.load.json"
  [ -z "$flush" ] || curl -fs -o /dev/null $flush
  settle "$work/$name"
  "$bin/drive" query --url "http://127.0.0.1:$port" --pid $pid --folder "$work/$name" --save "$results/$name.query.json"
  kill $pid
  wait $pid || true
  pid=
  rm -rf "${work:?}/$name"
}

settle() { # folder: waits until its size stays the same for 15 s, at most 3 minutes
  local size='' last='' same=0
  for _ in $(seq 36); do
    sleep 5
    size=$(du -sb "$1" 2>/dev/null | cut -f1) || true
    if [ "$size" = "$last" ]; then same=$((same + 1)); else same=0; fi
    [ $same -lt 3 ] || return 0
    last=$size
  done
  echo "!!! $1 did not settle"
}

grep -m1 'model name' /proc/cpuinfo || true
"$bin/drive" make --load "$work/load" --hosts "$hosts" --hours "$hours"
run varve 18278 /-/ready "-X POST http://127.0.0.1:18278/-/flush" \
  "$bin/varve" serve --data-dir "$work/varve" --listen 127.0.0.1:18278 --self-scrape false
run victoria-metrics 18428 /health "http://127.0.0.1:18428/internal/force_merge" \
  victoria-metrics -storageDataPath="$work/victoria-metrics" -httpListenAddr=127.0.0.1:18428 -retentionPeriod=100y
run prometheus 19090 /-/ready "" \
  prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus" \
  --web.listen-address=127.0.0.1:19090 --web.enable-remote-write-receiver --storage.tsdb.retention.time=10y
echo
"$bin/drive" table --results "$results" varve victoria-metrics prometheus
